"""Rows of the table of measures: a figure beside its peer, and whether it is as good as is asked."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """What a figure has to be: at least the bound, or with `most` at most."""

    bound: float
    most: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound


@dataclass(frozen=True)
class Row:
    """A measure. `values` has what the floor is of, by round; `name` is what it is remembered by.

    `ours` and `peer` are words: what was measured and how much it was.
    """

    name: str
    title: str
    ours: str
    peer: str
    values: list[float]
    floor: Floor | None = None
    # Where it is not the floor that says so: less is better.
    less: bool = False

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def speed(self) -> float:
        """The value such that more is better."""
        less = self.floor.most if self.floor is not None else self.less
        return 1 / self.value if less else self.value

    @property
    def met(self) -> bool | None:
        """Whether the floor holds; None if there is none."""
        return self.floor.holds(self.value) if self.floor is not None else None


@dataclass(frozen=True)
class Unmeasured:
    """A measure that could not be taken, with the reason. `absent` if only its peer is not installed."""

    title: str
    reason: str
    absent: bool


class MissingPeerError(Exception):
    """A peer is not on this machine; the text says how to install it."""


def median_rate(rates: list[float], unit: str = "/s") -> str:
    """Returns the median in words."""
    return f"{statistics.median(rates):,.0f}{unit}"


def median_time(nanoseconds: list[float]) -> str:
    """Returns the median in words, in the unit that suits it."""
    median = statistics.median(nanoseconds)
    if median < 1000:
        return f"{median:.1f} ns"
    return f"{median / 1000:.1f} us" if median < 1e6 else f"{median / 1e6:.2f} ms"
