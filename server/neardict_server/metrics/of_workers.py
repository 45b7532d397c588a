"""The figures of several workers, read in their supervisor.

Each worker keeps its own in files that the supervisor reads (prometheus_client's multiprocess mode), named
by the worker's number: a worker that is started again goes on counting where the one before was killed, so
that no sum ever goes down.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ..exclusive import ExclusiveLock
from ..startup import StartError
from . import keeping

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class WorkersMeasures:
    """While the context lasts, workers keep their figures in `folder`, and `registry` has the sums.

    Without a folder what is counted here nobody reads. Raises StartError if the folder cannot be used.
    """

    def __init__(self, numbers: Iterable[int], folder: Path | None) -> None:
        self.folder = folder
        self.registry = CollectorRegistry()
        keeping.in_memory()
        self._opened = contextlib.ExitStack()
        if folder is not None:
            try:
                self._opened.enter_context(ExclusiveLock(folder / "lock"))
                self._erase()
            except OSError as error:
                raise StartError(f"metrics_listen: workers keep their metrics in data_dir: {error}") from None
            self._opened.callback(self._erase)
            MultiProcessCollector(self.registry, str(folder))  # type: ignore[no-untyped-call]  # its authors'
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
        self._opened.close()

    def up(self, number: int) -> None:
        """Takes notice that the worker serves."""
        self._up.labels(number).set(1)

    def ended(self, number: int) -> None:
        """Takes notice that the worker ended, and with it what it had under way, or could not start."""
        self._up.labels(number).set(0)
        self._ends.labels(number).inc()
        if self.folder is not None:
            # What the worker had under way is told for longer then: no reason not to start it again.
            with contextlib.suppress(OSError):
                mark_process_dead(number, str(self.folder))  # type: ignore[no-untyped-call]  # its authors'

    def _erase(self) -> None:
        """Removes the files, of a server that was killed too."""
        if self.folder is not None:
            for file in self.folder.glob("*_*.*"):
                file.unlink(missing_ok=True)
