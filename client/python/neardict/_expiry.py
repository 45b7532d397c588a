"""Has entries looked up again when they seem to have expired, where no stream of changes tells that."""

import heapq
import itertools
import threading
import time
import weakref
from typing import NamedTuple, Protocol

from ._threads import join, start

# So few outdated entries are not worth clearing away.
_FEW = 100
# An entry that is there, though by the wall clock it has expired, is looked up again after so many seconds:
# it is the wall clock that is wrong.
AGAIN_SECONDS = 5.0


class Expiring(Protocol):
    def expire(self, key: str, revision: int) -> None:
        """Has the key looked up again if it still holds this revision."""
        ...


class _Due(NamedTuple):
    """What expires when. `number` tells entries of one time apart, so that no more is compared."""

    expires: float
    number: int
    cache: weakref.ref[Expiring]
    place: tuple[int, str]  # the dict's identity, and the key
    revision: int


class ExpiryTimer:
    """One thread for all dicts of a store, started when the first expiring entry is cached.

    It goes by the local wall clock, so it is as exact as the clocks of the two machines agree; what has
    expired is for the service to say.
    """

    def __init__(self) -> None:
        # Entered as a lock of C, and not through the condition, which is Python: an interrupt in that would
        # leave it taken.
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._due: list[_Due] = []  # a heap
        # The number of the latest entry of each dict and key: those before it are of no use any more.
        self._latest: dict[tuple[int, str], int] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, cache: Expiring, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch."""
        with self._lock:
            if self._closed:
                return
            if expires <= (now := time.time()):
                expires = now + AGAIN_SECONDS
            due = _Due(expires, next(self._numbers), weakref.ref(cache), (id(cache), key), revision)
            self._latest[due.place] = due.number
            heapq.heappush(self._due, due)
            if len(self._due) > 2 * len(self._latest) + _FEW:
                # An entry that is written again and again, each time to last longer, must not pile up.
                self._due = [due for due in self._due if self._latest.get(due.place) == due.number]
                heapq.heapify(self._due)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="neardict expiry", daemon=True)
                start(self._thread)
            elif self._due[0] is due:
                self._wake.notify()

    def close(self) -> None:
        """Ends the thread. Entries that expire later stay in their dicts."""
        with self._lock:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            join(self._thread)

    def forked(self) -> None:
        """In the child of a fork there is no thread, and the lock may be held by one that is gone."""
        self.__init__()  # type: ignore[misc]  # to be as new
        self._closed = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                wait = self._due[0].expires - time.time() if self._due else None
                if wait is None or wait > 0:
                    # At most a day at once, since a wall clock may be set.
                    self._wake.wait(None if wait is None else min(wait, 86400.0))
                    continue
                due = heapq.heappop(self._due)
                if self._latest.get(due.place) != due.number:
                    continue
                del self._latest[due.place]
            cache = due.cache()
            if cache is not None:
                cache.expire(due.place[1], due.revision)
            del cache
