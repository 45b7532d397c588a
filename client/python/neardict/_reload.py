"""Reads anew, in the background, what mirrors of a synchronous store have lost."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ._threads import join, start
from ._where import where
from .errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

# Between attempts to read a mirror: longer each time.
FIRST_BACKOFF = 0.25  # seconds
LONGEST_BACKOFF = 5.0
# For so long one who forks waits for a call in flight; then its child cannot connect, as after other calls.
_PAUSE_SECONDS = 1.0


class Mirror(Protocol):
    def needs_reload(self) -> bool:
        """Returns whether something is missing that could be read, and kept up to date from then on."""
        ...

    def reload(self) -> None:
        """Reads what is missing. Raises what reading raises."""
        ...


class _Job(NamedTuple):
    """A mirror to be read at `due`, by the monotonic clock; after `backoff` seconds again, if that fails."""

    mirror: weakref.ref[Mirror]
    due: float = float("-inf")
    backoff: float = FIRST_BACKOFF


def backoffs() -> Iterator[float]:
    """Yields for how long to wait after each failure."""
    backoff = FIRST_BACKOFF
    while True:
        yield backoff
        backoff = min(2 * backoff, LONGEST_BACKOFF)


class Reloader:
    """A thread that is started when the first mirror has lost something."""

    def __init__(self) -> None:
        # To be used also where a signal handler has interrupted another use.
        self._new: queue.SimpleQueue[weakref.ref[Mirror] | None] = queue.SimpleQueue()
        self._running = threading.RLock()
        self._thread: threading.Thread | None = None
        self._paused = self._closed = False

    def schedule(self, mirror: Mirror) -> None:
        """Has the mirror read soon, again and again until that succeeds or nobody needs it any more."""
        self._new.put(weakref.ref(mirror))
        if self._thread is None:
            # Where no thread can be had, the change that is being applied must not fail for that.
            with contextlib.suppress(RuntimeError):
                self._start()

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
            now = time.monotonic()
            due = [job for job in jobs if job.due <= now]
            jobs = [job for job in jobs if job.due > now]
            for job in due:
                if self._is_over():
                    jobs.append(job)
                elif not _reload(job.mirror):
                    longer = min(2 * job.backoff, LONGEST_BACKOFF)
                    jobs.append(_Job(job.mirror, time.monotonic() + job.backoff, longer))
        for job in jobs:  # for the thread after this one
            self._new.put(job.mirror)

    def _take(self, due: float | None) -> list[_Job]:
        """Waits for a mirror to read, until that time at most."""
        try:
            mirror = self._new.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            return []
        return [] if mirror is None else [_Job(mirror)]


def _reload(reference: weakref.ref[Mirror]) -> bool:
    """Returns whether nothing is left to do."""
    mirror = reference()
    if mirror is None or not mirror.needs_reload():
        return True
    try:
        mirror.reload()
    except ClosedError:
        return True
    except Exception as error:
        logger.debug("a mirror could not be read anew: %s", where(error))
        return not mirror.needs_reload()
    return True
