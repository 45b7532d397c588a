"""Takes entries out of caches when they expire: a hit is served by dict itself, which knows no time."""

import heapq
import itertools
import threading
import time
import weakref
from typing import Protocol


class Expiring(Protocol):
    def expire(self, key: str, revision: int) -> None:
        """Drops the key if it still holds this revision."""
        ...


class ExpiryTimer:
    """One thread for all dicts of a store, started when the first expiring entry is cached.

    It goes by the local wall clock, so it is as exact as the clocks of the two machines agree.
    """

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, weakref.ref[Expiring], str, int]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, cache: Expiring, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch."""
        with self._wake:
            if self._closed:
                return
            heapq.heappush(self._due, (expires, next(self._numbers), weakref.ref(cache), key, revision))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="neardict expiry", daemon=True)
                self._thread.start()
            elif self._due[0][0] == expires:
                self._wake.notify()

    def close(self) -> None:
        """Ends the thread. Entries that expire later stay in their dicts."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def forked(self) -> None:
        """In the child of a fork there is no thread, and the lock may be held by one that is gone."""
        self.__init__()  # type: ignore[misc]  # to be as new
        self._closed = True

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                wait = self._due[0][0] - time.time() if self._due else None
                if wait is None or wait > 0:
                    # At most a day at once, since a wall clock may be set.
                    self._wake.wait(None if wait is None else min(wait, 86400.0))
                    continue
                _, _, reference, key, revision = heapq.heappop(self._due)
            cache = reference()
            if cache is not None:
                cache.expire(key, revision)
            del cache
