"""The contents of a near dict, and the rules by which they follow the store."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from . import _requests, values
from ._versions import Versions
from .errors import (
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    UndecodableValueError,
    UnsupportedValueError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._changes import Change, Changes
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

MISSING: Any = object()
OUTDATED: Any = object()

OnDisconnect = Literal["ask", "serve_stale"]

# After these the service has certainly not applied the write.
_REFUSALS = (ConflictError, InvalidArgumentError, LimitExceededError, UnsupportedValueError)


class Expiries(Protocol):
    def add(self, cache: NearDict, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch."""
        ...


class Near(Protocol):
    """What a dict needs of its store to follow it."""

    @property
    def changes(self) -> Changes: ...

    @property
    def expiry(self) -> Expiries: ...


@dataclass
class Listing:
    """What a listing of the domain has brought so far; `epoch` is the dict's when it began."""

    epoch: int
    revision: int = 0
    keys: dict[str, None] = field(default_factory=dict)  # in the order of the listing
    unreadable: list[str] = field(default_factory=list)


class NearDict(dict[str, Any]):
    """A dict that holds some or all entries of a domain. No I/O: what asks the service is in subclasses.

    A hit is served by dict itself, so what is in the dict must be right. What is not known to be right is
    held aside, where it waits for the stream to catch up, and where it keeps its identity.

    Invariants, under _lock: a key that is held has its revision in _versions; what is held for a key
    only ever goes to a greater revision, unless the store itself is reset. No lock is held across I/O.
    """

    __slots__ = (
        "__weakref__",
        "_aside",
        "_domain",
        "_epoch",
        "_flights",
        "_fresh",
        "_load",
        "_lock",
        "_serve_stale",
        "_store",
        "_unknown",
        "_unreadable",
        "_versions",
        "_whole",
    )

    def __init__(self, store: Near, domain: str, *, load: bool, on_disconnect: OnDisconnect = "ask") -> None:
        super().__init__()
        _requests.check_text("domain", domain)
        if on_disconnect not in ("ask", "serve_stale"):
            raise InvalidArgumentError('on_disconnect must be "ask" or "serve_stale"')
        self._store = store
        self._domain = domain
        self._load = load
        self._serve_stale = on_disconnect == "serve_stale"
        self._begin()
        store.changes.subscribe(domain, self)

    def _begin(self) -> None:
        # Guards all below together with the contents. Never held across I/O. Reentrant, since a signal
        # handler may use the dict while its thread holds the lock.
        self._lock = threading.RLock()
        self._versions = Versions(self._store.changes.calls)
        # Look-ups under way, by key: concurrent misses of one key share one request.
        self._flights: dict[str, Any] = {}
        # What is held while the dict itself must not show it; None while it does.
        self._aside: dict[str, Any] | None = {}
        self._fresh = False
        # Whether every key of the domain is held, or among those that have to be asked for.
        self._whole = False
        # Of a mirror: keys that exist, or may, and have to be asked for; and those that nobody can read.
        self._unknown: set[str] = set()
        self._unreadable: set[str] = set()
        # Counts resets: what was asked for before one must not be held after it.
        self._epoch = 0

    @property
    def fresh(self) -> bool:
        """Whether what is held is known to be up to date with the service."""
        return self._fresh

    # What the store tells, see Listener.

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        with self._lock:
            # A look-up that began before the change must not answer for one that begins after it.
            self._flights.pop(change.key, None)
            if change.value is None:
                self._remove(change.key, change.revision)
            elif change.value.WhichOneof("kind") is None or not (
                self._load or self._peek(change.key) is not MISSING
            ):
                self._outdate(change.key, change.revision)
            else:
                try:
                    self._install(change.key, change.revision, change.value, change.expires)
                except UndecodableValueError:
                    # A look-up will raise it to somebody who can act; here it must not disturb the others.
                    self._outdate(change.key, change.revision)

    def freshen(self) -> None:
        """Shows what is held, which is up to date; for this package."""
        with self._lock:
            self._fresh = True
            if self._aside is not None:
                aside, self._aside = self._aside, None
                dict.update(self, aside)

    def stale(self) -> None:
        """Shows no more of what is held, unless the user wants that; for this package."""
        with self._lock:
            self._fresh = False
            if self._aside is None and not self._serve_stale:
                self._aside = self._copy_held()
                dict.clear(self)

    def reset(self) -> None:
        """Drops all that is held; for this package."""
        with self._lock:
            self._epoch += 1
            self._versions = Versions(self._store.changes.calls)
            self._flights.clear()
            self._unknown.clear()
            self._unreadable.clear()
            self._whole = False
            if self._aside is None:
                dict.clear(self)
            else:
                self._aside.clear()

    def expire(self, key: str, revision: int) -> None:
        """Drops the key if it holds this revision; for this package's timer."""
        with self._lock:
            if self._versions.held.get(key) == revision:
                self._remove(key, revision)

    def forked(self) -> None:
        """In the child of a fork: holds nothing, so that every access meets the closed store."""
        self._begin()
        dict.clear(self)

    # Around calls.

    @contextlib.contextmanager
    def _doubting(self, key: str, value: Any = MISSING) -> Iterator[int]:
        """Around a write of one key: whatever it raises, the key does not show what was not stored.

        Gives the epoch, for _wrote.
        """
        with self._store.changes.calls.under_way():
            try:
                yield self._epoch
            except BaseException as error:
                self._doubt(key, value, error)
                raise

    def _doubt(self, key: str, value: Any, error: BaseException) -> None:
        """Drops the key after a failed write, if what is held may differ from what is stored.

        It may, if the service has perhaps applied the write; or if the object that is held is the one that
        was to be written, which then was edited in place.
        """
        with self._lock:
            held = self._peek(key)
            if isinstance(error, _REFUSALS) and (held is not value or held is MISSING):
                return
            self._flights.pop(key, None)
            self._versions.forget(key)
            self._drop(key)
            if self._load:
                self._unknown.add(key)

    def _wrote(self, key: str, value: Any, revision: int, epoch: int) -> None:
        """Holds the very object that was written, also where the stream has brought a copy of it before."""
        with self._lock:
            self._flights.pop(key, None)
            if epoch != self._epoch:
                return
            if self._versions.install(key, revision) or self._versions.held.get(key) == revision:
                self._put(key, value)

    def _install_reply(self, key: str, response: pb.GetValueResponse, epoch: int) -> Any:
        """Holds what a look-up found; returns the value, MISSING if absent, OUTDATED to ask again."""
        with self._lock:
            if epoch != self._epoch:
                return OUTDATED
            if response.found:
                self._install_entry(response.entry)
                value = self._peek(key)
                return OUTDATED if value is MISSING else value
            self._remove(key, response.domain_revision)
            return self._peek(key)

    def _take_page(self, listing: Listing, page: pb.AllKeysResponse) -> None:
        listing.revision = page.domain_revision
        listing.unreadable += page.unreadable_keys
        with self._lock:
            if listing.epoch != self._epoch:
                return
            for entry in page.entries:
                try:
                    self._install_entry(entry)
                except UndecodableValueError:
                    listing.unreadable.append(entry.key)
                else:
                    listing.keys[entry.key] = None

    def _end_listing(self, listing: Listing) -> dict[str, Any] | None:
        """Drops what was not listed, and returns the whole domain as a plain dict; None after a reset."""
        with self._lock:
            if listing.epoch != self._epoch:
                return None
            for key in [key for key in self._held() if key not in listing.keys]:
                # It was absent at that revision; if what is held is newer, it stays.
                self._remove(key, listing.revision)
            self._unreadable = set(listing.unreadable)
            self._unknown -= self._unreadable
            self._whole = True
            held = self._copy_held()
        if listing.unreadable:
            logger.warning(
                "%d entries of the domain %r cannot be read and are left out, the first being %r: "
                "looking one up raises the reason",
                len(listing.unreadable),
                self._domain,
                listing.unreadable[0],
            )
        # In the order of the listing, so that for a partial cache d.keys() and d.values() go together.
        return {key: held.pop(key) for key in listing.keys if key in held} | held

    def _cannot_read(self, key: str) -> None:
        """Leaves the key out of the mirror, though it exists."""
        with self._lock:
            self._unknown.discard(key)
            self._unreadable.add(key)

    def _surely_absent(self, key: object) -> bool:
        """Returns whether a key that is not held is known to be absent, so that nobody need be asked."""
        return (
            self._whole
            and self._load
            and self._aside is None
            and self._store.changes.session is not None
            and key not in self._unknown
            and key not in self._unreadable
        )

    # The contents. The caller holds _lock.

    def _install_entry(self, entry: pb.Entry) -> None:
        expires = _requests.expire_time(entry)
        self._install(entry.key, entry.revision, entry.value, expires.timestamp() if expires else None)

    def _install(self, key: str, revision: int, message: pb.Value, expires: float | None) -> None:
        if self._versions.admits(key, revision):
            value = self._decode(message)
            self._versions.install(key, revision)
            self._put(key, value)
            if expires is not None:
                self._store.expiry.add(self, key, revision, expires)

    def _remove(self, key: str, revision: int) -> None:
        if self._versions.remove(key, revision):
            self._drop(key)
            self._unknown.discard(key)
            self._unreadable.discard(key)

    def _outdate(self, key: str, revision: int) -> None:
        if self._versions.outdate(key, revision):
            self._drop(key)
            if self._load:
                self._unknown.add(key)

    def _held(self) -> Iterable[str]:
        return dict.keys(self) if self._aside is None else self._aside

    def _peek(self, key: str) -> Any:
        return dict.get(self, key, MISSING) if self._aside is None else self._aside.get(key, MISSING)

    def _put(self, key: str, value: Any) -> None:
        self._unknown.discard(key)
        self._unreadable.discard(key)
        if self._aside is None:
            super().__setitem__(key, value)
        else:
            self._aside[key] = value

    def _drop(self, key: str) -> None:
        if self._aside is None:
            dict.pop(self, key, None)
        else:
            self._aside.pop(key, None)

    def _copy_held(self) -> dict[str, Any]:
        """Returns a plain dict of what is held.

        Not dict.copy(self): for a class with an __iter__ of its own that goes through keys().
        """
        held = dict.items(self) if self._aside is None else self._aside.items()
        return {key: value for key, value in held}  # noqa: C416  # dict(view) is slower

    # How values travel, in one place, for subclasses that have another way.

    def _decode(self, message: pb.Value) -> Any:
        """Returns the value of a message. Raises UndecodableValueError."""
        return values.decode(message)

    def _request(self, key: str, value: Any, **condition: Any) -> pb.SetValueRequest:
        """Words a write. Raises UnsupportedValueError."""
        return _requests.set_value(self._domain, key, values.encode(value), **condition)
