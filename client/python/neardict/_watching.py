"""Drives the Watch stream of a synchronous store, with two threads that end with it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ._reading import Line, Reading
from ._session import PING_SECONDS
from ._threads import aside, join

if TYPE_CHECKING:
    from ._connection import Renewal
    from ._session import Session


class Watching:
    """One thread opens streams and reads them, another sends pings and gives up streams that are silent."""

    def __init__(self, session: Session, line: Line, renewal: Renewal) -> None:
        self._session = session
        self._line = line
        self._renewal = renewal
        self._closed = False
        self._lock = threading.RLock()  # a signal handler may make a dict
        self._threads: tuple[Reading, threading.Thread] | None = None

    def start(self) -> None:
        """Starts the threads, if they do not run yet."""
        if self._threads is None:
            # Not here, where an interrupt would leave half of them.
            aside(self._start)

    def _start(self) -> None:
        with self._lock:
            if self._threads is None and not self._closed:
                reading = Reading(self._session, self._line)
                ticking = threading.Thread(
                    target=self._tick, args=(reading,), name="neardict ping", daemon=True
                )
                self._threads = reading, ticking
                try:
                    reading.start()
                    ticking.start()
                except BaseException:
                    reading.end(lambda: False)
                    self._threads = None
                    raise

    def pause(self) -> bool:
        """Ends the stream and the threads, until `start` is called; returns whether they ran."""
        with self._lock:
            threads = self._threads
        if threads is None:
            return False
        reading, ticking = threads
        # Nobody need wait for what was leased here, if the service hears that it is given back.
        reading.end(self._session.leave)
        join(ticking)
        with self._lock:
            # Not before: another thread that pauses or closes has to wait for them as well.
            if self._threads is threads:
                self._threads = None
        return True

    def close(self) -> None:
        """Ends the stream and the threads for good."""
        self._closed = True
        self._session.close()
        self.pause()
        self._line.close()

    def drop(self) -> None:
        """Ends the stream and the threads in a moment: nobody can use them any more.

        For finalizers, which run wherever it may be: takes no lock and waits for nothing.
        """
        self._closed = True
        if (threads := self._threads) is not None:
            threads[0].drop()

    def _tick(self, reading: Reading) -> None:
        wait: float | None = PING_SECONDS
        while True:
            due = time.monotonic() + (PING_SECONDS if wait is None else wait)
            if reading.stopped.wait(max(0.0, due - time.monotonic())):
                return
            if reading.dropped:
                reading.give_up()
                return
            answered = self._session.was_answered()
            wait = self._session.tick()
            if wait is None:
                reading.give_up()
                if answered:
                    self._renewal.silent(time.monotonic() - due)
