"""The clock by which a client trusts what it holds, and repeats what it has sent."""

import time


def _time_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# Seconds, which never go back. Where there is such a clock, it goes on while the machine sleeps: a laptop
# that wakes up must not take what it held before for fresh, nor the service to remember a write of yesterday.
now = _time_since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
