"""Tells the dicts of one store what was written, each of the domains that it mirrors or caches.

Today a change is one that this store made itself. The stream of the service's changes will enter here.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import NamedTuple, Protocol

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


# So few domains without listeners are not worth clearing away.
_FEW = 100


class Change(NamedTuple):
    """A write of `key` that was given `revision`; `value` is None for a deletion.

    `expires` is the wall clock's time of expiry in seconds, None for never; `call` the number of the call
    that made the change.
    """

    key: str
    revision: int
    value: pb.Value | None
    expires: float | None = None
    call: int = 0


class Listener(Protocol):
    def apply(self, change: Change) -> None:
        """Takes notice of a change; changes may come twice, and in any order. Must not block or raise."""
        ...

    def doubt(self, key: str) -> None:
        """Takes notice of a write that failed, and perhaps was applied. Must not block or raise."""
        ...

    def forked(self) -> None:
        """Empties itself, in the child of a fork."""
        ...


class Changes:
    """Listeners by domain, held weakly: a dict that nobody uses any more needs no changes."""

    def __init__(self) -> None:
        self.calls = Calls()
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

    def forked(self) -> None:
        """Tells every listener that it is in the child of a fork now."""
        self.calls = Calls()
        self._lock = threading.RLock()  # a signal handler may make a dict
        for domain in list(self._listeners):
            for listener in self._alive(domain):
                listener.forked()

    def _alive(self, domain: str) -> Iterator[Listener]:
        for reference in list(self._listeners.get(domain, {}).values()):
            if (listener := reference()) is not None:
                yield listener
