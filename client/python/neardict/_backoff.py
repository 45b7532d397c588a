"""For how long to wait before what failed is tried again: longer each time, and never two clients in step.

Exponential backoff with jitter, as https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MULTIPLIER = 2.0
# Beyond this the power would only overflow.
_MOST_DOUBLINGS = 16
# Not the generator of the module random, which is the program's own: it may have seeded it. The system's, so
# that the children of a fork do not go in step.
_CHANCE = random.SystemRandom()


def jitter() -> float:
    """Returns the share of a wait that is waited."""
    return _CHANCE.uniform(0.5, 1.0)


def spread(seconds: float) -> float:
    """Returns when in so many seconds to do what all clients are told to do at once."""
    return _CHANCE.uniform(0.0, seconds)


class Backoff(NamedTuple):
    """`first` and `longest` in seconds."""

    first: float
    longest: float

    def wait(self, failures: int, jitter: Callable[[], float] = jitter) -> float:
        """Returns for how many seconds to wait after so many failures in a row, at least one."""
        doubled: float = self.first * _MULTIPLIER ** min(failures - 1, _MOST_DOUBLINGS)
        return min(doubled, self.longest) * jitter()
