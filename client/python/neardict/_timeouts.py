"""How long a call may take."""

from decimal import Decimal
from numbers import Real
from typing import Any

from .errors import InvalidArgumentError

# gRPC counts a deadline from now on, and one that it cannot count has passed.
_LONGEST = 365 * 24 * 3600.0  # seconds


def check(timeout: Any, name: str = "timeout") -> float:
    """Returns the seconds that were given as the argument; a year where it is longer, as infinity is.

    One of 0 or less has passed already. Raises InvalidArgumentError if it is not a number of seconds.
    """
    if not is_number(timeout):
        raise InvalidArgumentError(
            f"{name} must be a number of seconds, not {type(timeout).__name__}; math.inf waits for ever"
        )
    if timeout != timeout:  # as NaN alone is
        raise InvalidArgumentError(f"{name} must be a number of seconds, not NaN; math.inf waits for ever")
    # Compared first, since what is larger may be no float.
    return float(min(timeout, _LONGEST))


def is_number(value: object) -> bool:
    """Returns whether the value is a real number, of whatever kind."""
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)
