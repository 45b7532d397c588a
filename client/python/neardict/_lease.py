"""What makes a dict linearizable: a lease of its domain, and the rules of serving under it."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Literal

from ._clock import now
from ._contents import MISSING
from ._near import NearDict
from ._session import Lease
from ._value_type import V
from .errors import CapabilityMissingError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._near import Near

# What is promised of a read: see docs/consistency.md.
Consistency = Literal["bounded", "linearizable"]


# Stores whose leases are to be given back when the process ends, so that nobody waits for it.
_stores: weakref.WeakSet[Any] = weakref.WeakSet()


def leave_at_exit(store: Any) -> None:
    """Gives the store's leases back when the process ends, unless it is closed before.

    It can be used still: functions that the program registered with atexit before may come after this one.
    But its dicts that are not linearizable show what they hold then, whatever others write.
    """
    _stores.add(store)


@atexit.register
def _leave() -> None:
    for store in list(_stores):
        with contextlib.suppress(Exception):
            store.leave()


def check(consistency: str, on_disconnect: str) -> bool:
    """Returns whether a lease is wanted. Raises InvalidArgumentError."""
    if consistency not in ("bounded", "linearizable"):
        raise InvalidArgumentError('consistency must be "bounded" or "linearizable"')
    if consistency == "linearizable" and on_disconnect == "serve_stale":
        raise InvalidArgumentError('a linearizable dict serves nothing stale: leave out "serve_stale"')
    return consistency == "linearizable"


class _Revoked:
    """A key that is being written: by which writes, and what is held of it, which is not shown."""

    __slots__ = ("held", "numbers")

    def __init__(self, held: Any) -> None:
        self.held = held
        self.numbers: set[int] = set()


class LeasedDict(NearDict[V]):
    """Shows what it holds only under the lease, and no key that is being written. No I/O, as in NearDict.

    Invariant, while the lease lasts: what is shown under a key is what is stored, since the service waits
    with a write until `revoke` has returned. What is held of a revoked key follows the store out of sight.

    Every method that reads looks at the clock first: then what it reads was stored at some moment after it
    was called, however long the process is suspended in between. Others than these, which read the storage
    itself, cannot, and so never find it without GUARD. Subclasses declare the slot of `_revoked`.
    """

    __slots__ = ()

    leased = True
    _revoked: dict[str, _Revoked]

    def __init__(self, store: Near, domain: str, **options: Any) -> None:
        if store.changes.session is None:
            raise CapabilityMissingError("linearizable dicts need the stream of changes: connect(watch=True)")
        super().__init__(store, domain, **options)

    def _begin(self) -> None:
        super()._begin()
        self._revoked = {}
        self._lease = Lease()

    def _joined(self) -> None:
        session = self._store.changes.session
        if session is not None:
            self._lease = session.lease(self._domain)
            self.freshen()

    def check_granted(self) -> None:
        """Raises CapabilityMissingError if the service gives no lease of the domain."""
        session = self._store.changes.session
        if session is not None and (why := session.refused(self._domain)):
            raise CapabilityMissingError(why, reason="CAPABILITY_MISSING", capability="CAPABILITY_LEASES")

    # The quickest reads: one look at the clock, and no call of ours while the lease lasts.

    def __getitem__(self, key: str) -> Any:
        if now() >= self._lease.until:
            self._look_at_clock()
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        if now() >= self._lease.until:
            self._look_at_clock()
        return dict.__contains__(self, key) or super().__contains__(key)

    # What the store tells.

    def freshen(self) -> None:
        """Shows what is held, if the lease lasts; for this package."""
        with self._lock:
            # It may be over, where the process was suspended since it was renewed. Who has just looked at the
            # clock would take for good what is shown now.
            if now() < self._lease.until:
                super().freshen()

    def revoke(self, key: str, number: int) -> None:
        """Shows nothing under the key until `release(key, number)`; for this package."""
        with self._lock:
            self._flights.pop(key, None)
            revoked = self._revoked.get(key)
            if revoked is None:
                held = self._peek(key)
                self._clear_slot(key)
                revoked = self._revoked[key] = _Revoked(held)
            revoked.numbers.add(number)

    def release(self, key: str, number: int) -> None:
        """Shows again what is held under the key, unless another write of it goes on; for this package."""
        with self._lock:
            revoked = self._revoked.get(key)
            if revoked is None:
                return
            revoked.numbers.discard(number)
            if not revoked.numbers:
                del self._revoked[key]
                if revoked.held is not MISSING:
                    self._fill_slot(key, revoked.held)

    def revocations(self, key: str) -> list[int]:
        """Returns the numbers of the writes of the key that go on, as far as is known; for this package."""
        with self._lock:
            revoked = self._revoked.get(key)
            return [] if revoked is None else list(revoked.numbers)

    def reset(self) -> None:
        """Drops all that is held; for this package."""
        with self._lock:
            super().reset()
            for revoked in self._revoked.values():
                revoked.held = MISSING

    # What must not be answered from memory while a key is being written.

    def _knows_absent(self, key: object) -> bool:
        with self._lock:
            return key not in self._revoked and super()._knows_absent(key)

    def _shows_all(self) -> bool:
        return not self._revoked and super()._shows_all()

    def _is_complete(self) -> bool:
        return False

    def _shares_look_ups(self) -> bool:
        # One that began earlier may have been answered before a write that is done by now.
        return False

    # The contents, wherever they are.

    def _peek(self, key: str) -> Any:
        revoked = self._revoked.get(key)
        return super()._peek(key) if revoked is None else revoked.held

    def _fill_slot(self, key: str, value: Any) -> None:
        revoked = self._revoked.get(key)
        if revoked is None:
            super()._fill_slot(key, value)
        else:
            revoked.held = value

    def _fill_slots(self, entries: Iterable[tuple[str, Any]]) -> None:
        if not self._revoked:
            super()._fill_slots(entries)
        else:
            for key, value in entries:
                self._fill_slot(key, value)

    def _clear_slot(self, key: str) -> None:
        revoked = self._revoked.get(key)
        if revoked is None:
            super()._clear_slot(key)
        else:
            revoked.held = MISSING

    def _held_count(self) -> int:
        return super()._held_count() + sum(one.held is not MISSING for one in self._revoked.values())

    def _holds_just(self, keys: list[str]) -> bool:
        return not self._revoked and super()._holds_just(keys)

    def _held_keys(self) -> list[str]:
        return [*super()._held_keys(), *self._hidden()]

    def _held_values(self) -> list[Any]:
        return [*super()._held_values(), *self._hidden().values()]

    def _held_items(self) -> list[tuple[str, Any]]:
        return [*super()._held_items(), *self._hidden().items()]

    def _copy_held(self) -> dict[str, Any]:
        return super()._copy_held() | self._hidden()

    def _hidden(self) -> dict[str, Any]:
        return {key: one.held for key, one in self._revoked.items() if one.held is not MISSING}
