"""What a plot is of: lines of points, each measured in several rounds."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Series:
    """A line: the figures of all rounds by where they stand on the axis."""

    title: str
    points: dict[str, list[float]] = field(default_factory=dict)

    def note(self, where: str, figure: float) -> None:
        self.points.setdefault(where, []).append(figure)

    def median(self, where: str) -> float:
        return statistics.median(self.points[where])


@dataclass
class Sweep:
    """A plot; `name` is that of its file."""

    name: str
    title: str
    along: str
    figure: str
    series: list[Series]

    @property
    def places(self) -> list[str]:
        """Where there are points, in the order in which they were measured."""
        return list(dict.fromkeys(where for series in self.series for where in series.points))
