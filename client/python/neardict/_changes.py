"""Tells the dicts of one store what was written: by the store itself, or by anybody, as the service says."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ._calls import Calls
from .errors import (
    CapabilityMissingError,
    ClosedError,
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    PermissionDeniedError,
    UnsupportedValueError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._session import Session
    from .v1 import storage_pb2 as pb

# After these it is certain that the service has not applied the write; and after the last, that nothing can
# be asked any more, so that dicts keep what they have.
CERTAIN = (
    CapabilityMissingError,
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    PermissionDeniedError,
    UnsupportedValueError,
    ClosedError,
)


# Stands for a value that did not travel with its change, as it is large.
NOT_SENT: Any = object()
# So few domains without listeners are not worth clearing away.
_FEW = 100


class Change(NamedTuple):
    """A write of `key` that was given `revision`; `value` is None for a deletion, or NOT_SENT.

    `expires` is the wall clock's time of expiry in seconds, None for never. `call` is the number of the call
    of this store that made the change; `streamed` changes come from the service instead, in the order of
    revisions.
    """

    key: str
    revision: int
    value: pb.Value | None
    expires: float | None = None
    call: int = 0
    streamed: bool = False


class Listener(Protocol):
    """None of these may block or raise, and all may come twice.

    `leased` says that it needs a lease of its domain.
    """

    leased: bool = False

    def apply(self, change: Change) -> None:
        """Takes notice of a change; changes may come in any order."""
        ...

    def doubt(self, key: str) -> None:
        """Takes notice of a write that failed, and perhaps was applied."""
        ...

    def freshen(self) -> None:
        """What is held is up to date, and will be kept so, until `stale` is called."""
        ...

    def stale(self) -> None:
        """What is held may be out of date, until `freshen` is called."""
        ...

    def reset(self) -> None:
        """What is held cannot be brought up to date: it must not be shown again."""
        ...

    def revoke(self, key: str, number: int) -> None:
        """The key is about to be written: under a lease it must not be shown until `release`."""
        ...

    def release(self, key: str, number: int) -> None:
        """The write of that number is over, and its change has been applied."""
        ...

    def forked(self) -> None:
        """Empties itself, in the child of a fork."""
        ...


class Changes:
    """Listeners by domain, held weakly: a dict that nobody uses any more needs no changes.

    `session` follows the service's changes; a store without one is all that writes to its domains.
    """

    def __init__(self) -> None:
        self.calls = Calls()
        self.session: Session | None = None
        self._lock = threading.RLock()  # a signal handler may make a dict
        # By identity, since dicts have no hash.
        self._listeners: dict[str, dict[int, weakref.ref[Listener]]] = {}
        # With more than this it is time to look for domains without listeners.
        self._most_domains = _FEW

    def subscribe(self, domain: str, listener: Listener) -> None:
        """Lets the listener know of every change of the domain from now on, while it lives."""
        identity = id(listener)

        def gone(_: object) -> None:
            # May run in any thread and within any call, so without the lock; dict.pop is atomic.
            self._listeners.get(domain, {}).pop(identity, None)

        with self._lock:
            if len(self._listeners) > self._most_domains:
                self._listeners = {name: those for name, those in self._listeners.items() if those}
                self._most_domains = 2 * len(self._listeners) + _FEW
            self._listeners.setdefault(domain, {})[identity] = weakref.ref(listener, gone)
        if self.session is None:
            listener.freshen()
        else:
            self.session.join(domain, listener)

    def listeners(self) -> list[Listener]:
        """Returns all listeners of all domains."""
        return [listener for domain in list(self._listeners) for listener in self._alive(domain)]

    def heard(self, domain: str) -> bool:
        """Returns whether anybody listens to the domain; forgets it if not."""
        with self._lock:
            if self._listeners.get(domain):
                return True
            self._listeners.pop(domain, None)
            return False

    def leased(self, domain: str) -> bool:
        """Returns whether anybody who listens to the domain needs a lease of it."""
        return any(listener.leased for listener in self._alive(domain))

    def leaseholders(self, domain: str) -> Iterator[Listener]:
        """Returns those who listen to the domain and need a lease of it."""
        return (listener for listener in self._alive(domain) if listener.leased)

    def listened(self, domain: str) -> bool:
        """Returns whether `publish` may have somebody to tell: it costs something to say what."""
        return bool(self._listeners.get(domain))

    def publish(self, domain: str, change: Change, *, but: Listener | None = None) -> None:
        """Tells every listener of the domain, except the one that knows already."""
        for listener in self._alive(domain):
            if listener is not but:
                listener.apply(change)

    @contextlib.contextmanager
    def writing(self, domain: str, key: str) -> Iterator[int]:
        """Around a write, until it is published: a call under way, which may fail. Gives its number."""
        with self.calls.under_way() as call:
            try:
                yield call
            except BaseException as error:
                self.failed(domain, key, error)
                raise

    def failed(self, domain: str, key: str, error: BaseException) -> None:
        """Tells every listener of the domain of a write that failed, if it has perhaps been applied."""
        if not isinstance(error, CERTAIN):
            for listener in self._alive(domain):
                listener.doubt(key)

    def freshen(self, domain: str) -> None:
        """Tells every listener of the domain."""
        for listener in self._alive(domain):
            listener.freshen()

    def stale(self, domain: str) -> None:
        """Tells every listener of the domain."""
        for listener in self._alive(domain):
            listener.stale()

    def revoke(self, domain: str, key: str, number: int) -> None:
        """Tells every listener of the domain."""
        for listener in self._alive(domain):
            listener.revoke(key, number)

    def release(self, domain: str, key: str, number: int) -> None:
        """Tells every listener of the domain."""
        for listener in self._alive(domain):
            listener.release(key, number)

    def reset(self, domain: str) -> None:
        """Tells every listener of the domain."""
        for listener in self._alive(domain):
            listener.reset()

    def forked(self) -> None:
        """Tells every listener that it is in the child of a fork now."""
        self.calls = Calls()
        self.session = None
        self._lock = threading.RLock()  # a signal handler may make a dict
        for domain in list(self._listeners):
            for listener in self._alive(domain):
                listener.forked()

    def _alive(self, domain: str) -> Iterator[Listener]:
        for reference in list(self._listeners.get(domain, {}).values()):
            if (listener := reference()) is not None:
                yield listener
