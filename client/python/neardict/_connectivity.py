"""Tells whether the service is there, as the stream of changes knows it: to the log, and to callbacks."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from . import _callbacks
from ._where import where
from .errors import CapabilityMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._changes import Changes
    from ._observers import Schedule

logger = logging.getLogger(__name__)

# So many domains are named in the log.
_NAMED = 5


class ConnectionObserver:
    """One registration of `on_connection`; `cancel` ends it. A context manager, which cancels at its end."""

    def __init__(self, callback: Callable[[bool], object], schedule: Schedule) -> None:
        _callbacks.check("the callback of on_connection", callback)
        self._callback = callback
        self._schedule = schedule
        # Guards all below; a leaf.
        self._lock = threading.Lock()
        self._waiting: bool | None = None
        self._told: bool | None = None
        self._scheduled = False
        self.cancelled = False

    def __enter__(self) -> ConnectionObserver:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Ends the calls, except one that is in flight. May be repeated."""
        self.cancelled = True

    def notice(self, connected: bool) -> None:
        """Has it told; where the callback cannot keep up, the last is. For this package."""
        with self._lock:
            self._waiting = connected
            if self._scheduled or self.cancelled:
                return
            self._scheduled = True
        arrange(self._schedule, self._tell)

    def _tell(self) -> None:
        with self._lock:
            self._scheduled = False
            connected = self._waiting
            if self.cancelled or connected is None or connected is self._told:
                return
            self._told = connected
        try:
            self._callback(connected)
        except Exception as error:
            logger.error(
                "a callback of on_connection raised %s; it is called again all the same", where(error)
            )


def arrange(schedule: Schedule, work: Callable[[], None]) -> None:
    """Schedules the work; who tells of the connection goes on also where that fails."""
    # No thread can be started now: then it is done with the next, which finds it waiting.
    with contextlib.suppress(RuntimeError):
        schedule(work)


def check_watches(changes: Changes) -> None:
    """Raises CapabilityMissingError for a store that opens no stream of changes."""
    if changes.session is None:
        raise CapabilityMissingError(
            "on_connection needs the stream of changes, which tells of the connection: connect(watch=True)"
        )


class Connectivity:
    """What is known of the service: it is there, or not, or, until something has been heard, neither.

    Thread-safe.
    """

    def __init__(
        self,
        target: str,
        domains: Callable[[], list[str]],
        clock: Callable[[], float],
        schedule: Schedule,
    ) -> None:
        """`domains` returns the names of those that the stream follows; `clock` returns seconds.

        What is told, and logged, is scheduled: `notice` is called under locks.
        """
        self._target = target
        self._domains = domains
        self._clock = clock
        self._schedule = schedule
        self._lock = threading.RLock()  # a signal handler may use the store
        self._connected: bool | None = None
        self._since = 0.0
        self._held = 0
        self._observers: tuple[ConnectionObserver, ...] = ()

    def observe(self, callback: Callable[[bool], object]) -> ConnectionObserver:
        """Has the callback told what is known now, if anything is, and whenever that changes."""
        observer = ConnectionObserver(callback, self._schedule)
        with self._lock:
            self._observers = (*(one for one in self._observers if not one.cancelled), observer)
            if self._connected is not None:
                observer.notice(self._connected)
        return observer

    def notice(self, connected: bool) -> None:
        """The stream was answered, or has ended; may be repeated."""
        if connected is self._connected or self._held:
            return
        with self._lock:
            before, self._connected = self._connected, connected
            if before is connected:
                return
            now = self._clock()
            seconds, self._since = now - self._since, now
            for observer in self._observers:
                observer.notice(connected)
        if before is not None or not connected:
            arrange(self._schedule, lambda: self._log(before, connected, seconds))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """While the store itself ends the stream, for the time of a fork, the service is not lost."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1

    def forked(self) -> None:
        """In the child of a fork nobody is told, and the lock may be held by a thread that is no more."""
        self._lock = threading.RLock()
        self._observers = ()

    def _log(self, before: bool | None, connected: bool, seconds: float) -> None:
        if not connected:
            what = "cannot reach" if before is None else "lost"
            logger.info("%s neardict at %s%s", what, self._target, self._named())
        else:
            logger.info("neardict at %s is back after %.1f s%s", self._target, seconds, self._named())

    def _named(self) -> str:
        names = self._domains()
        if not names:
            return ""
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"; domains: {', '.join(map(repr, names[:_NAMED]))}{more}"
