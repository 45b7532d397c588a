"""Reads anew, in the background, what mirrors of a synchronous store have lost."""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from typing import Protocol

from ._backoff import Backoff, spread
from ._threads import join, start
from ._where import where
from .errors import ClosedError

logger = logging.getLogger(__name__)

# Before a mirror is read, so that not all clients of a service that begins anew read it at once.
_SPREAD = 0.1  # seconds
# Between readings of a mirror that loses more meanwhile; and after those that fail.
_BACKOFF = Backoff(0.25, 5.0)
# For so long one who forks waits for a call in flight; then its child cannot connect, as after other calls.
_PAUSE_SECONDS = 1.0


class Mirror(Protocol):
    def needs_reload(self) -> bool:
        """Returns whether something is missing that could be read, and kept up to date from then on."""
        ...

    def reload(self) -> None:
        """Reads what is missing. Raises what reading raises."""
        ...

    def reload_ended(self) -> bool:
        """Returns whether nothing is left to be read; then it will be scheduled anew."""
        ...


class Pauses:
    """How long to wait before each reading of one mirror, in seconds."""

    def __init__(self) -> None:
        self._failures = 0

    @staticmethod
    def first() -> float:
        return spread(_SPREAD)

    def next(self, *, failed: bool) -> float:
        """Returns what to wait after a reading."""
        self._failures = self._failures + 1 if failed else 0
        return _BACKOFF.wait(max(self._failures, 1))


class _Job:
    """A mirror to be read, one job at a time for each; `due` is by the monotonic clock."""

    def __init__(self, mirror: weakref.ref[Mirror]) -> None:
        self.mirror = mirror
        self._pauses = Pauses()
        self.due = time.monotonic() + self._pauses.first()

    def run(self) -> bool:
        """Returns whether it is to be run again when it is due."""
        mirror = self.mirror()
        if mirror is None:
            return False
        failed = False
        try:
            if mirror.needs_reload():
                mirror.reload()
        except ClosedError:
            return False
        except BaseException as error:
            # Whatever a decoder of the program's raises ends no thread on which other mirrors wait.
            logger.debug("a mirror could not be read anew: %s", where(error))
            failed = True
        self.due = time.monotonic() + self._pauses.next(failed=failed)
        return not mirror.reload_ended()


class Reloader:
    """A thread that is started when the first mirror has lost something."""

    def __init__(self) -> None:
        # To be used also where a signal handler has interrupted another use.
        self._new: queue.SimpleQueue[weakref.ref[Mirror] | None] = queue.SimpleQueue()
        self._running = threading.RLock()
        self._thread: threading.Thread | None = None
        self._paused = self._closed = False

    def schedule(self, mirror: Mirror) -> bool:
        """Has the mirror read soon, again and again until its `reload_ended`; whether there is a thread."""
        self._new.put(weakref.ref(mirror))
        try:
            if self._thread is None:
                self._start()
        except RuntimeError:
            # No thread can be had. The change that is being applied must not fail for that.
            return False
        return True

    def pause(self) -> None:
        """Ends the thread, until `resume`."""
        with self._running:
            self._paused = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._new.put(None)
            join(thread, _PAUSE_SECONDS)

    def resume(self) -> None:
        """Goes on where `pause` has ended it."""
        self._paused = False
        if not self._new.empty():
            self._start()

    def close(self) -> None:
        """Ends the thread for good; `join` waits for it."""
        self._closed = True
        self._new.put(None)

    # For finalizers, which run wherever it may be: takes no lock and waits for nothing.
    drop = close

    def join(self) -> None:
        """Waits until the thread has ended, after `close`."""
        if (thread := self._thread) is not None:
            join(thread)

    def forked(self) -> None:
        """In the child of a fork there is no thread, and the lock may be held by one that is gone."""
        self.__init__()  # type: ignore[misc]  # to be as new
        self._closed = True

    def _start(self) -> None:
        with self._running:
            if self._thread is None and not self._paused and not self._closed:
                self._thread = threading.Thread(target=self._work, name="neardict reload", daemon=True)
                try:
                    start(self._thread)
                except BaseException:
                    self._thread = None
                    raise

    def _is_over(self) -> bool:
        return self._closed or self._thread is not threading.current_thread()

    def _work(self) -> None:
        jobs: list[_Job] = []
        while not self._is_over():
            jobs += self._take(min((job.due for job in jobs), default=None))
            for job in [job for job in jobs if job.due <= time.monotonic()]:
                if not self._is_over() and not job.run():
                    jobs.remove(job)
        for job in jobs:  # for the thread after this one
            self._new.put(job.mirror)

    def _take(self, due: float | None) -> list[_Job]:
        """Waits for a mirror to read, until that time at most."""
        try:
            mirror = self._new.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            return []
        return [] if mirror is None else [_Job(mirror)]
