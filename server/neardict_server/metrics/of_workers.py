"""The figures of several workers, read in their supervisor.

Each worker keeps its own in files that the supervisor reads (prometheus_client's multiprocess mode), named
by the worker's number: a worker that is started again goes on counting where the one before was killed, so
that no sum ever goes down.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from collections.abc import Iterable


class WorkersMeasures:
    """While the context lasts, `folder` is where workers keep their figures, and `registry` has the sums."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._files = TemporaryDirectory(prefix="neardict-metrics-")
        self.folder = self._files.name
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, self.folder)  # type: ignore[no-untyped-call]  # as its authors left it
        self._up = Gauge(
            "neardict_worker_up", "1 while the worker serves.", ["worker"], registry=self.registry
        )
        self._ends = Counter(
            "neardict_worker_ends",
            "How often it ended unasked, or failed to start.",
            ["worker"],
            registry=self.registry,
        )
        for number in numbers:
            self._up.labels(number)
            self._ends.labels(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._files.cleanup()

    def up(self, number: int) -> None:
        """Takes notice that the worker serves."""
        self._up.labels(number).set(1)

    def ended(self, number: int) -> None:
        """Takes notice that the worker ended, and with it what it had under way."""
        self._up.labels(number).set(0)
        self._ends.labels(number).inc()
        mark_process_dead(number, self.folder)  # type: ignore[no-untyped-call]  # as its authors left it


def keep_in(folder: str, number: int) -> None:
    """Has this process, a worker, keep all figures that it will have in files of the folder."""
    # The library looks for it there.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # as its authors left it
