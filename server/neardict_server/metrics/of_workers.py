"""The figures of several workers, read in their supervisor.

Each worker keeps its own in files that the supervisor reads (prometheus_client's multiprocess mode), named
by the worker's number: a worker that is started again goes on counting where the one before was killed, so
that no sum ever goes down.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class WorkersMeasures:
    """While the context lasts, `folder` is where workers keep their figures, and `registry` has the sums.

    With `keep` false there is no folder, and what is counted here nobody reads.
    """

    def __init__(self, numbers: Iterable[int], *, keep: bool) -> None:
        self._files = TemporaryDirectory(prefix="neardict-metrics-") if keep else None
        self.folder = self._files.name if self._files is not None else None
        self.registry = CollectorRegistry()
        if self.folder is not None:
            # Its authors left it without types.
            MultiProcessCollector(self.registry, self.folder)  # type: ignore[no-untyped-call]
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
        if self._files is not None:
            self._files.cleanup()

    def up(self, number: int) -> None:
        """Takes notice that the worker serves."""
        self._up.labels(number).set(1)

    def ended(self, number: int) -> None:
        """Takes notice that the worker ended, and with it what it had under way, or could not start."""
        self._up.labels(number).set(0)
        self._ends.labels(number).inc()
        if self.folder is not None:
            mark_process_dead(number, self.folder)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def kept_in(folder: str | None, number: int) -> Iterator[None]:
    """Has this process, a worker, keep in files of the folder all figures that it makes from now on.

    If the supervisor has been killed meanwhile, the files go in the end, and with the last one the folder.
    """
    supervisor = os.getppid()
    if folder is not None:
        # The library looks for it there.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if folder is not None and os.getppid() != supervisor:
            for file in Path(folder).glob(f"*_{number}.db"):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are still there
                Path(folder).rmdir()
