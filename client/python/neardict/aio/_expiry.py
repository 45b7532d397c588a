"""Takes entries out of caches when they expire, by timers of the event loop."""

import asyncio
import time
import weakref
from collections.abc import Callable

from .._near import NearDict

# A timer lasts at most a day and is then set anew, since a wall clock may be set.
_LONGEST = 86400.0


class LoopExpiry:
    """A timer for each expiring entry that is cached. `clock` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # By dict, key and revision, which tell one timer from all others.
        self._timers: dict[tuple[int, str, int], asyncio.TimerHandle] = {}

    def add(self, cache: NearDict, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch."""
        self._set(weakref.ref(cache), (id(cache), key, revision), expires)

    def close(self) -> None:
        """Ends the timers. Entries that expire later stay in their dicts."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _set(self, cache: weakref.ref[NearDict], timer: tuple[int, str, int], expires: float) -> None:
        wait = min(max(expires - self._clock(), 0.0), _LONGEST)
        self._timers[timer] = self._loop.call_later(wait, self._fire, cache, timer, expires)

    def _fire(self, cache: weakref.ref[NearDict], timer: tuple[int, str, int], expires: float) -> None:
        del self._timers[timer]
        if expires > self._clock():
            self._set(cache, timer, expires)
        elif (alive := cache()) is not None:
            _, key, revision = timer
            alive.expire(key, revision)
