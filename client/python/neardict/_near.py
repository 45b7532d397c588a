"""The contents of a near dict, and the rules by which they follow the store."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Literal, Protocol

from . import _requests, values
from ._changes import CERTAIN, NOT_SENT, Change
from ._clock import now
from ._contents import GUARD, MISSING, Contents
from ._eviction import Residents
from ._session import EVER, Lease
from ._stats import Counts
from ._value_type import V
from ._versions import Versions
from .errors import BulkError, ConflictError, InvalidArgumentError, NeardictError, UndecodableValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ._changes import Changes
    from ._observers import Schedule
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# The answer of a look-up that began too early to tell what is stored by now.
OUTDATED: Any = object()

# What a dict does while it cannot know whether it is up to date.
OnDisconnect = Literal["ask", "serve_stale"]

# With more keys in doubt than this, the domain is listed anew for whoever waits for it, and in the background
# if they are most of it.
MOST_LOOK_UPS = 100
# So many are looked up at once.
LOOK_UPS_AT_ONCE = 32

# How many absent keys a cache remembers that was given no bound of its own.
_ABSENCES = 10_000


class Expiries(Protocol):
    def add(self, cache: NearDict, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch.

        Only where no stream of changes says what has expired.
        """
        ...


class Near(Protocol):
    """What a dict needs of its store to follow it."""

    @property
    def changes(self) -> Changes: ...

    @property
    def expiry(self) -> Expiries: ...

    @property
    def accepted(self) -> int:
        """How values may be compressed that are answered."""
        ...

    @property
    def tell(self) -> Schedule:
        """Where callbacks run."""
        ...

    def reload(self, cache: Any) -> bool:
        """Has `cache.reload()` called, soon and elsewhere, until `cache.reload_ended()`; whether it could."""
        ...


class NearDict(Contents[V]):
    """A dict that holds some or all entries of a domain. No I/O: what asks the service is in subclasses.

    A hit is served by dict itself, so what is in the dict must be right. What is not known to be up to date
    is set aside, where it waits for the stream to catch up, and keeps its identity.

    Invariants, under _lock: a key that is held has its revision in _versions; what is held for a key
    only ever goes to a greater revision. An entry changes in the contents first, and then its revision:
    what an interrupt leaves behind has none, and so is replaced.

    No lock is held across I/O, nor while a value is decoded, which may run code of the program's own.
    """

    __slots__ = (
        "__weakref__",
        "_absent",
        "_counts",
        "_domain",
        "_expired",
        "_flights",
        "_fresh",
        "_lease",
        "_listed",
        "_load",
        "_lock",
        "_max_entries",
        "_reload_due",
        "_residents",
        "_serve_stale",
        "_store",
        "_unreadable",
        "_versions",
        "_was_listed",
    )

    # Whether the dict needs a lease of its domain.
    leased = False

    def __init__(
        self,
        store: Near,
        domain: str,
        *,
        load: bool,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
    ) -> None:
        super().__init__()
        _requests.check_text("domain", domain)
        if on_disconnect not in ("ask", "serve_stale"):
            raise InvalidArgumentError('on_disconnect must be "ask" or "serve_stale"')
        if max_entries is not None:
            if load:
                raise InvalidArgumentError("a mirror holds all entries: with max_entries give load=False")
            if not isinstance(max_entries, int) or max_entries < 1:
                raise InvalidArgumentError("max_entries must be a number of at least 1")
        self._max_entries = max_entries
        self._store = store
        self._domain = domain
        self._load = load
        self._serve_stale = on_disconnect == "serve_stale"
        self._private = load
        self._begin()
        store.changes.subscribe(domain, self)
        self._joined()

    def _begin(self) -> None:
        # Guards all below together with the contents. Reentrant, since a signal handler may use the
        # dict while its thread holds the lock.
        self._lock = threading.RLock()
        self._versions = self._new_versions()
        # Look-ups under way, by key: concurrent misses of one key share one request.
        self._flights: dict[str, Any] = {}
        # Until when what is held may be served from memory.
        session = self._store.changes.session
        self._lease = Lease(EVER) if session is None else session.trust
        # Whether the domain was listed once. From then on a mirror follows, but for keys in doubt.
        self._listed = False
        # The same, whatever was lost since.
        self._was_listed = False
        # Whether the store has been asked to have what is missing read, and will until `reload_ended`.
        self._reload_due = False
        # Of a mirror without a stream, the keys to be looked up since they seem to have expired.
        self._expired: set[str] = set()
        # Keys that exist but that nobody can read, as the last listing said.
        self._unreadable: frozenset[str] = frozenset()
        self._fresh = False
        # What a bounded cache holds, wherever it is; None without a bound.
        self._residents = None if self._max_entries is None else Residents(self._max_entries)
        # Keys that a look-up did not find, and that no change has brought since.
        self._absent = Residents(self._max_entries or _ABSENCES)
        self._counts = Counts()
        self._switch({}, {GUARD: None})

    def _joined(self) -> None:
        """The store knows of the dict now."""

    def publish(self) -> None:
        """Somebody is about to have the dict; for this package."""
        with self._lock:
            self._private = False
            if not self._is_complete():
                self._guard()

    def check_granted(self) -> None:
        """Raises CapabilityMissingError if the service cannot do what the dict needs; for this package."""

    def _new_versions(self, since: int = 0) -> Versions:
        changes = self._store.changes
        return Versions(changes.calls, since, streamed=changes.session is not None)

    @property
    def domain(self) -> str:
        """The domain that this is a dict of."""
        return self._domain

    @property
    def fresh(self) -> bool:
        """Whether what is held is known to be up to date with the service, in a mirror the whole domain."""
        self._look_at_clock()
        session = self._store.changes.session
        return (
            self._fresh
            and (self._is_whole() or not self._load)
            and session is not None
            and not session.closed
        )

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        key, revision, message, expires, call, streamed = change
        value = MISSING
        # A look without the lock, which saves decoding what is older than all that is known, or not used.
        if (
            message is not None
            and message is not NOT_SENT
            and (self._load or self._peek(key) is not MISSING)
            and self._versions.admits(key, revision, call)
        ):
            # What cannot be decoded a look-up will raise to somebody who can act; here it must not
            # disturb the writer.
            with contextlib.suppress(UndecodableValueError):
                value = self._decode(message)
        with self._lock:
            # A look-up that began before the change must not answer for one that begins after it.
            self._flights.pop(key, None)
            if streamed and message is not None:
                if self._load and self._versions.was_listed(key, revision):
                    message = None  # it is gone by now, which the stream will tell too
                elif self._versions.may_be_past(key, revision):
                    value = MISSING  # what there is now has to be read
            if message is None:
                self._remove(key, revision, call)
            elif value is not MISSING:
                self._hold(key, revision, value, expires, call)
            elif not self._versions.admits(key, revision, call):
                self._versions.turn_down(key, revision, call)
            else:
                self._drop(key, revision)
            if message is not None:
                self._absent.discard(key)
            self._ask_if_overtaken(key, revision, call)
            if streamed:
                self._versions.passed(revision)
            self._follow_up()

    def freshen(self) -> None:
        """Shows what is held, which is up to date; for this package."""
        with self._lock:
            self._expose()
            self._fresh = True
            self._follow_up()

    def stale(self) -> None:
        """Shows no more of what is held, unless the user wants that; for this package."""
        with self._lock:
            self._fresh = False
            if not self._serve_stale:
                self._conceal()

    def reset(self) -> None:
        """Drops all that is held; for this package."""
        with self._lock:
            self._versions = self._new_versions(since=self._store.changes.calls.latest())
            self._flights.clear()
            self._listed = False
            self._expired.clear()
            self._clear_slots()
            if self._residents is not None:
                self._residents.clear()
            self._absent.clear()

    def revoke(self, key: str, number: int) -> None:
        """Takes notice that the key is being written; for this package."""

    def release(self, key: str, number: int) -> None:
        """Takes notice that it is not any more; for this package."""

    def expire(self, key: str, revision: int) -> None:
        """Has the key looked up again if it holds this revision; for this package's timer.

        No more than that, since it is the service's clock that counts.
        """
        with self._lock:
            if self._versions.held.get(key) != revision:
                return
            if self._load:
                self._expired.add(key)
                self._reload_soon()
            else:
                self._drop(key)

    def doubt(self, key: str) -> None:
        """Drops the key, since a write of it failed and was perhaps applied; for this package."""
        with self._lock:
            self._flights.pop(key, None)
            self._absent.discard(key)
            self._guard()
            # Before it goes: what an interrupt leaves must not be taken for absent.
            self._versions.doubt(key)
            self._pop(key)
            self._follow_up()

    def forked(self) -> None:
        """In the child of a fork: holds nothing, so that every access meets the closed store."""
        self._begin()

    @contextlib.contextmanager
    def _doubting(self, key: str, value: Any = MISSING) -> Iterator[int]:
        """Around a write of one key: whatever it raises, the key does not show what was not stored.

        Gives the number of the call.
        """
        with self._store.changes.calls.under_way() as call:
            try:
                yield call
            except BaseException as error:
                self._write_failed(key, value, error)
                raise

    def _write_failed(self, key: str, value: Any, error: BaseException) -> None:
        """Drops the key if what is held may differ from what is stored.

        It may, if the service has perhaps applied the write; if another one is stored, as a conflict tells;
        or if the object that is held is the one that was to be written, which then was edited in place.
        """
        with self._lock:
            held = self._peek(key)
            if (
                not isinstance(error, CERTAIN)
                or (held is not MISSING and held is value)
                or (
                    isinstance(error, ConflictError)
                    and error.current_revision != self._versions.held.get(key, 0)
                )
            ):
                self.doubt(key)

    def _writes_failed(self, new: Mapping[str, Any], error: BaseException) -> None:
        """As _write_failed, of all these values, or of those that the error names."""
        failures = error.failures if isinstance(error, BulkError) else dict.fromkeys(new, error)
        for key, failure in failures.items():
            self._write_failed(key, new[key], failure)

    def _revision_of(self, key: str, value: Any) -> int | None:
        """Returns the revision of the value if it is what is held under the key, else None."""
        with self._lock:
            if self._peek(key) is not value:
                return None
            if key not in self._versions.held:
                self._drop(key)  # an interrupt left it so
            return self._versions.held.get(key)

    def _is_whole(self) -> bool:
        """Returns whether the contents are the whole domain, which they should be in a mirror."""
        return self._listed and not self._versions.doubtful

    def _is_complete(self) -> bool:
        return self._load and self._is_whole()

    def _follow_up(self) -> None:
        """After whatever may have made the contents the whole domain, or less than that.

        Then a mirror is read anew in the background. The caller holds _lock.
        """
        if not self._load:
            return
        if self._is_whole():
            self._unguard_if_whole()
        elif self._was_listed and self.needs_reload():
            self._reload_soon()

    def _reload_soon(self) -> None:
        if not self._reload_due:
            self._reload_due = self._store.reload(self)

    def _is_shown_fresh(self) -> bool:
        """Returns whether what is held is served, and by a store that keeps it up to date."""
        session = self._store.changes.session
        return self._aside is None and not (session is not None and session.closed)

    def _leave_out(self, key: str, error: NeardictError, doubt: int | None) -> None:
        """The contents are whole without the entry, which nobody can read: a look-up raises the error.

        Unless something has come of the key since the look-up began: `doubt` is what there was of it then.
        """
        # Once for each, where it is written again and again.
        level = logging.DEBUG if key in self._unreadable else logging.WARNING
        logger.log(level, "the entry %r of the domain %r is left out: %s", key, self._domain, error)
        with self._lock:
            if self._versions.doubtful.get(key) != doubt or (doubt is None and key not in self._expired):
                return
            if doubt is None:
                self._drop(key)
            self._unreadable |= {key}
            self._versions.doubtful.pop(key, None)
            self._follow_up()

    def needs_reload(self) -> bool:
        """Returns whether there is something to be read in the background; for this package.

        Of what a mirror lacks only what the stream would keep up to date: without it, what is read when it is
        used is newer, and a write that failed may be applied until then.
        """
        streamed = self._store.changes.session is not None
        return bool(self._expired) or (self._load and streamed and self._fresh and not self._is_whole())

    def reload_ended(self) -> bool:
        """Returns whether there is nothing more to be read in the background now; for this package.

        Then the store will be asked again for what gets lost from now on.
        """
        with self._lock:
            self._reload_due = self.needs_reload()
            return not self._reload_due

    def _to_look_up(self) -> list[str] | None:
        """Returns the keys that are to be read in the background, None if that is the whole domain."""
        with self._lock:
            if not (self._load and self._store.changes.session is not None):
                return list(self._expired)
            doubtful = self._versions.doubtful
            if not self._listed or len(doubtful) > max(MOST_LOOK_UPS, self._held_count()):
                return None
            return list({**dict.fromkeys(self._expired), **doubtful})

    def _looked_up(self, key: str) -> None:
        """The key has been read in the background."""
        with self._lock:
            self._expired.discard(key)

    def _look_at_clock(self) -> None:
        """Conceals what is held if nothing proves any more that it is up to date. Before reading.

        The session does that too, as soon as its driver has its turn. Which may be late: after a suspension
        of the process, or where the event loop is blocked.
        """
        if self._fresh and now() >= self._lease.until:
            with self._lock:
                session = self._store.changes.session
                # Once more, since it may have been renewed before there was the lock.
                if self._fresh and session is not None and now() >= self._lease.until:
                    session.overdue.add(self._domain)
                    self.stale()

    def _install_reply(self, key: str, response: pb.GetValueResponse, call: int) -> Any:
        """Holds what a look-up found, unless something newer is known.

        Returns the value that is held then, or MISSING if there is none, or OUTDATED if that is not known.
        """
        value = self._decode_new(response.entry, call) if response.found else MISSING
        with self._lock:
            if value is not MISSING:
                self._hold_entry(response.entry, value, call)
            elif response.found and self._versions.held.get(key) == response.entry.revision:
                if (expires := _requests.expiry(response.entry)) is not None:
                    self._await_expiry(key, response.entry.revision, expires)
            elif not response.found and self._not_found(key, response.domain_revision, call):
                self._follow_up()
                return MISSING
            self._follow_up()
            held = self._peek(key)
            return OUTDATED if held is MISSING else held

    def _not_found(self, key: str, revision: int, call: int) -> bool:
        # Asked first, since what is noted of a removal looks like a change that the read has missed.
        if not self._load and self._versions.sees(key, revision, call):
            self._absent.admit(key)
        return self._remove(key, revision, call)

    def _decode_new(self, entry: pb.Entry, call: int) -> Any:
        """Returns the value of an entry that a read has brought, MISSING if something newer is known."""
        # Looked up without the lock, which is sound since it is asked again under it.
        if self._versions.admits(entry.key, entry.revision, call):
            return self._decode(entry.value)
        return MISSING

    def _hold_entry(self, entry: pb.Entry, value: Any, call: int) -> None:
        self._hold(entry.key, entry.revision, value, _requests.expiry(entry), call)

    def _hold(self, key: str, revision: int, value: Any, expires: float | None = None, call: int = 0) -> None:
        """Holds the value, unless something newer is known. The caller holds _lock."""
        if self._versions.admits(key, revision, call):
            self._put(key, value)
            self._versions.install(key, revision)
            self._counts.fills += call > 0
            if expires is not None:
                self._await_expiry(key, revision, expires)
        else:
            self._versions.turn_down(key, revision, call)

    def _await_expiry(self, key: str, revision: int, expires: float) -> None:
        # With a stream it is the service that tells what has expired, by its own clock.
        if self._store.changes.session is None:
            self._store.expiry.add(self, key, revision, expires)

    def _remove(self, key: str, revision: int, call: int = 0) -> bool:
        """Holds nothing under the key; False if something newer is known. The caller holds _lock."""
        if self._versions.admits_absence(key, revision, call):
            self._pop(key)
            self._versions.remove(key, revision, call)
            return True
        self._versions.turn_down(key, revision + 1, call)
        return False

    def _drop(self, key: str, least: int = 0) -> None:
        """Holds nothing under the key until a look-up brings it anew, with this revision or a newer one.

        The caller holds _lock.
        """
        self._guard()
        if self._load:
            # What a mirror does not hold and has no doubt of is absent.
            self._versions.outdate(key, least)
        else:
            self._versions.forget(key, least)
        self._pop(key)

    def _wrote(self, key: str, value: Any, revision: int, call: int, expires: float | None = None) -> None:
        """Holds the very object that was written, also where the stream has brought a copy of it before."""
        with self._lock:
            self._flights.pop(key, None)
            if self._versions.held.get(key) == revision:
                self._put(key, value)
            else:
                self._hold(key, revision, value, expires, call)
                self._ask_if_overtaken(key, revision, call)
            self._follow_up()

    def _held_at(self, key: str, revision: int) -> Any:
        """Returns the object that is held under the key at this revision, or MISSING."""
        with self._lock:
            return self._peek(key) if self._versions.held.get(key) == revision else MISSING

    def _touched(self, entry: pb.Entry, held: Any, revision: int, expires: float | None, call: int) -> None:
        """Holds what was read as this entry, and was written unchanged: the very object, if it was held."""
        if held is MISSING:
            self.apply(Change(entry.key, revision, entry.value, expires, call))
        else:
            self._wrote(entry.key, held, revision, call, expires)

    def _ask_if_overtaken(self, key: str, revision: int, call: int) -> None:
        """Drops the key until a look-up tells, if a reset keeps out a write that is perhaps still stored.

        The caller holds _lock.
        """
        if self._versions.is_overtaken(key, revision, call):
            self._absent.discard(key)
            self._guard()
            self._versions.outdate(key, revision)
            self._pop(key)

    def _knows_absent(self, key: object) -> bool:
        """Returns whether a key that is not held is known to be absent, so that nobody need be asked."""
        self._look_at_clock()
        with self._lock:
            # It may have been hidden when it was looked for, and be shown again by now.
            if dict.__contains__(self, key) or self._aside is not None or self._store.changes.session is None:
                return False
            if not self._load:
                return key in self._absent
            return self._listed and key not in self._versions.doubtful and key not in self._unreadable

    def _shares_look_ups(self) -> bool:
        """Returns whether a look-up that is under way may answer for one that begins now."""
        # While the stream is broken nobody would tell that it began before a write.
        return self._fresh

    def _missed(self, count: int) -> None:
        with self._lock:
            self._counts.misses += count

    # How values travel, in one place, for subclasses that have another way.

    def _decode(self, message: pb.Value) -> Any:
        """Returns the value of a message. Raises UndecodableValueError."""
        return values.decode(message, self._store.accepted)

    def _decode_all(self, messages: Sequence[pb.Value]) -> list[Any]:
        """Returns the value of each message, or the UndecodableValueError in its place."""
        return values.decode_all(messages, self._store.accepted)

    def _request(self, key: str, value: Any, **condition: Any) -> pb.SetValueRequest:
        """Words a write. Raises UnsupportedValueError."""
        return _requests.set_value(self._domain, key, values.encode(value), **condition)

    # Holding, wherever it is shown. The caller holds _lock.

    def _put(self, key: str, value: Any) -> None:
        self._absent.discard(key)
        if self._residents is not None:
            # Before the contents, so that an interrupt leaves no entry that is not counted.
            self._make_room(self._residents, key)
        self._fill_slot(key, value)

    def _pop(self, key: str) -> None:
        self._clear_slot(key)
        if self._residents is not None:
            self._residents.discard(key)

    def _make_room(self, residents: Residents, key: str) -> None:
        leaving = residents.leaving(key)
        if leaving is not None:
            self._drop(leaving)
            self._counts.evictions += 1
        residents.add(key)

    def _has_room(self, key: str) -> bool:
        """Returns whether the entry can be held without another having to leave."""
        return self._residents is None or self._residents.leaving(key) is None
