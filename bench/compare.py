"""Runs each operation between two runs of the echo, so that both see the same moods of the machine.

A round goes through all backends and operations, by each way of calling. The ratio of an operation in a
round is its rate by the mean rate of the two runs of the echo around it. What counts is the median of the
rounds; the least and the greatest tell how far to trust it.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .load import Sample
from .operations import OPERATIONS

ECHO = "echo"


class Row(NamedTuple):
    """What a figure is of. The echo has a row in each way; there `backend` and `operation` are ECHO."""

    way: str
    backend: str
    operation: str


@dataclass
class Figure:
    """What the rounds gave: calls a second, the same by the echo's, and each call's latency in ns."""

    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    latencies: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def percentile(self, percent: int) -> float:
        """Returns a percentile of the latencies of all rounds, in milliseconds."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)] / 1e6


@dataclass
class Way:
    """A way of calling, with a client of its kind for the echo and for each backend.

    `run` makes so many of the calls; a run has `calls` of them, or `listings` of AllKeys.
    """

    name: str
    calls: int
    listings: int
    run: Callable[[Any, int], Sample]
    echo: Callable[[int], Any]
    backends: dict[str, dict[str, Callable[[int], Any]]]


# Writes the first so many keys to a backend.
Fill = Callable[[str, int], None]


def measure(
    ways: Iterable[Way], *, rounds: int, fill: Fill, progress: Callable[[str], None]
) -> dict[Row, Figure]:
    """Returns the figures of all rounds. The backends hold every key, and `fill` brings deleted ones back."""
    figures: dict[Row, Figure] = {}
    ways = list(ways)
    for number in range(rounds):
        for way in ways:
            progress(f"round {number + 1} of {rounds}, {way.name}")
            _round(way, fill, figures)
    return figures


def _round(way: Way, fill: Fill, figures: dict[Row, Figure]) -> None:
    def note(backend: str, operation: str, sample: Sample) -> Figure:
        figure = figures.setdefault(Row(way.name, backend, operation), Figure())
        figure.rates.append(sample.rate)
        figure.latencies += sample.latencies
        return figure

    def echo() -> Sample:
        sample = way.run(way.echo, way.calls)
        note(ECHO, ECHO, sample)
        return sample

    for backend, calls in way.backends.items():
        before = echo()
        for operation in OPERATIONS:
            sample = way.run(calls[operation], way.listings if operation == "AllKeys" else way.calls)
            after = echo()
            figure = note(backend, operation, sample)
            figure.ratios.append(sample.rate / statistics.mean((before.rate, after.rate)))
            before = after
        fill(backend, way.calls)
