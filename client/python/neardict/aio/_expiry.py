"""Has entries looked up again when they seem to have expired, by timers of the event loop."""

import asyncio
import time
import weakref
from collections.abc import Callable

from .._expiry import AGAIN_SECONDS
from .._near import NearDict

# A timer lasts at most a day and is then set anew, since a wall clock may be set.
_LONGEST = 86400.0


class LoopExpiry:
    """A timer for each expiring entry that is cached. `clock` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # By dict and key: a later entry of the key takes the place of an earlier one.
        self._timers: dict[tuple[int, str], asyncio.TimerHandle] = {}

    def add(self, cache: NearDict, key: str, revision: int, expires: float) -> None:
        """Arranges for `cache.expire(key, revision)` at `expires`, seconds since the epoch."""
        if expires <= (now := self._clock()):
            expires = now + AGAIN_SECONDS
        self._set((id(cache), key), weakref.ref(cache), revision, expires)

    def close(self) -> None:
        """Ends the timers. Entries that expire later stay in their dicts."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _set(
        self, place: tuple[int, str], cache: weakref.ref[NearDict], revision: int, expires: float
    ) -> None:
        if (earlier := self._timers.get(place)) is not None:
            earlier.cancel()
        wait = min(max(expires - self._clock(), 0.0), _LONGEST)
        self._timers[place] = self._loop.call_later(wait, self._fire, place, cache, revision, expires)

    def _fire(
        self, place: tuple[int, str], cache: weakref.ref[NearDict], revision: int, expires: float
    ) -> None:
        del self._timers[place]
        if expires > self._clock():
            self._set(place, cache, revision, expires)
        elif (alive := cache()) is not None:
            alive.expire(place[1], revision)
