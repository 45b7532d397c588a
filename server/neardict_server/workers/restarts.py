"""When a worker that ended is started again: at once, and ever later if it does not last."""

import time
from collections.abc import Callable

# Who lasted so long was well: what it ended of is no reason to wait.
LASTING_SECONDS = 30.0
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0


class Restarts:
    """The restarts of one worker. `clock` returns seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._next = 0.0

    def started(self) -> None:
        """Takes notice that it is started now."""
        self._began = self._clock()

    def ended(self) -> float:
        """Takes notice that it has ended; returns for how many seconds to wait before the next start."""
        if self._clock() - self._began >= LASTING_SECONDS:
            self._next = 0.0
        wait = self._next
        self._next = min(max(2 * wait, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return wait
