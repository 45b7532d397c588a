"""How long a call may take."""

import math
from numbers import Real

from .errors import InvalidArgumentError

# gRPC counts a deadline from now on, and one that it cannot count has passed.
_LONGEST = 365 * 24 * 3600.0  # seconds


def check(timeout: object) -> float:
    """Returns the seconds that were given as a timeout; a year where it is longer, as infinity is.

    One of 0 or less has passed already. Raises InvalidArgumentError if it is not a number of seconds.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or math.isnan(float(timeout)):
        raise InvalidArgumentError("timeout must be a number of seconds; math.inf waits for ever")
    return min(float(timeout), _LONGEST)
