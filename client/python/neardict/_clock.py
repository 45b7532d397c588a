"""The clock by which a client trusts what it holds."""

import time


def _time_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# Seconds, which never go back. Where there is such a clock, it goes on while the machine sleeps: a laptop
# that wakes up must not take what it held before for fresh.
now = _time_since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
