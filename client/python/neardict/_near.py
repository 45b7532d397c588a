"""The contents of a near dict, and the rules by which they follow the store."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

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
    from collections.abc import Iterator

    from ._changes import Change, Changes
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

MISSING: Any = object()

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
    """What a listing of the domain has brought so far; `doubts` is their number when it began."""

    doubts: int
    revision: int = 0
    keys: dict[str, None] = field(default_factory=dict)  # in the order of the listing
    unreadable: list[str] = field(default_factory=list)


class NearDict(dict[str, Any]):
    """A dict that holds some or all entries of a domain. No I/O: what asks the service is in subclasses.

    Invariants, under _lock: a key that is held has its revision in _versions; what is held for a key
    only ever goes to a greater revision. The contents change through _install, _remove, _wrote and
    _doubt alone. No lock is held across I/O.
    """

    __slots__ = (
        "__weakref__",
        "_domain",
        "_doubts",
        "_flights",
        "_load",
        "_lock",
        "_store",
        "_versions",
        "_whole",
    )

    def __init__(self, store: Near, domain: str, *, load: bool) -> None:
        super().__init__()
        _requests.check_text("domain", domain)
        self._store = store
        self._domain = domain
        self._load = load
        self._reset()
        store.changes.subscribe(domain, self)

    def _reset(self) -> None:
        # Guards the three below together with the contents. Never held across I/O. Reentrant, since a
        # signal handler may use the dict while its thread holds the lock.
        self._lock = threading.RLock()
        self._versions = Versions(self._store.changes.calls)
        # Look-ups under way, by key: concurrent misses of one key share one request.
        self._flights: dict[str, Any] = {}
        # Whether the contents are the whole domain, as they should be in a mirror; and how many times
        # a failed write has put that in doubt.
        self._whole = False
        self._doubts = 0

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        with self._lock:
            # A look-up that began before the change must not answer for one that begins after it.
            self._flights.pop(change.key, None)
            if change.value is None:
                self._remove(change.key, change.revision)
                return
            try:
                self._install(change.key, change.revision, change.value, change.expires)
            except UndecodableValueError:
                # A look-up will raise it to somebody who can act; here it must not disturb the writer.
                self._versions.forget(change.key)
                dict.pop(self, change.key, None)

    def expire(self, key: str, revision: int) -> None:
        """Drops the key if it holds this revision; for this package's timer."""
        with self._lock:
            if self._versions.held.get(key) == revision:
                self._remove(key, revision)

    def forked(self) -> None:
        """In the child of a fork: holds nothing, so that every access meets the closed store."""
        self._reset()
        dict.clear(self)

    @contextlib.contextmanager
    def _doubting(self, key: str, value: Any = MISSING) -> Iterator[None]:
        """Around a write of one key: whatever it raises, the key does not show what was not stored."""
        with self._store.changes.calls.under_way():
            try:
                yield
            except BaseException as error:
                self._doubt(key, value, error)
                raise

    def _doubt(self, key: str, value: Any, error: BaseException) -> None:
        """Drops the key after a failed write, if what is held may differ from what is stored.

        It may, if the service has perhaps applied the write; or if the object that is held is the one that
        was to be written, which then was edited in place.
        """
        with self._lock:
            held = dict.get(self, key, MISSING)
            if isinstance(error, _REFUSALS) and (held is not value or held is MISSING):
                return
            self._flights.pop(key, None)
            self._versions.forget(key)
            dict.pop(self, key, None)
            self._doubts += 1
            self._whole = False

    def _install_reply(self, key: str, response: pb.GetValueResponse) -> Any:
        """Holds what a look-up found, unless something newer is known; returns the value or MISSING."""
        with self._lock:
            if response.found:
                self._install_entry(response.entry)
            else:
                self._remove(key, response.domain_revision)
            return dict.get(self, key, MISSING)

    def _install_entry(self, entry: pb.Entry) -> None:
        expires = _requests.expire_time(entry)
        self._install(entry.key, entry.revision, entry.value, expires.timestamp() if expires else None)

    def _install(self, key: str, revision: int, message: pb.Value, expires: float | None) -> None:
        if self._versions.admits(key, revision):
            value = self._decode(message)
            self._versions.install(key, revision)
            super().__setitem__(key, value)
            if expires is not None:
                self._store.expiry.add(self, key, revision, expires)

    # How values travel, in one place, for subclasses that have another way.

    def _decode(self, message: pb.Value) -> Any:
        """Returns the value of a message. Raises UndecodableValueError."""
        return values.decode(message)

    def _request(self, key: str, value: Any, **condition: Any) -> pb.SetValueRequest:
        """Words a write. Raises UnsupportedValueError."""
        return _requests.set_value(self._domain, key, values.encode(value), **condition)

    def _remove(self, key: str, revision: int) -> None:
        if self._versions.remove(key, revision):
            dict.pop(self, key, None)

    def _wrote(self, key: str, value: Any, revision: int) -> None:
        """Holds the very object that was written."""
        with self._lock:
            self._flights.pop(key, None)
            if self._versions.install(key, revision):
                super().__setitem__(key, value)

    def _copy_held(self) -> dict[str, Any]:
        """Returns a plain dict of what is held. The caller holds _lock, since another thread may write.

        Not dict.copy(self): for a class with an __iter__ of its own that goes through keys().
        """
        return {key: value for key, value in dict.items(self)}  # noqa: C416  # dict(view) is slower

    def _take_page(self, listing: Listing, page: pb.AllKeysResponse) -> None:
        listing.revision = page.domain_revision
        listing.unreadable += page.unreadable_keys
        with self._lock:
            for entry in page.entries:
                try:
                    self._install_entry(entry)
                except UndecodableValueError:
                    listing.unreadable.append(entry.key)
                else:
                    listing.keys[entry.key] = None

    def _end_listing(self, listing: Listing) -> dict[str, Any]:
        """Drops what was not listed, and returns the whole domain as a plain dict."""
        with self._lock:
            for key in [key for key in dict.keys(self) if key not in listing.keys]:
                # It was absent at that revision; if what is held is newer, it stays.
                self._remove(key, listing.revision)
            # A write that failed meanwhile may have dropped a key that was listed before.
            self._whole = listing.doubts == self._doubts
            held = self._copy_held()
        # In the order of the listing, so that for a partial cache d.keys() and d.values() go together.
        found = {key: held.pop(key) for key in listing.keys if key in held} | held
        if listing.unreadable:
            logger.warning(
                "%d entries of the domain %r cannot be read and are left out, the first being %r: "
                "looking one up raises the reason",
                len(listing.unreadable),
                self._domain,
                listing.unreadable[0],
            )
        return found
