"""Where a process keeps its figures: in memory, or in files that the supervisor of several workers reads."""

import os
from pathlib import Path

from prometheus_client import values

# The files of a worker, by the kinds of metrics that there are.
KINDS = ("counter", "gauge_livesum", "gauge_max", "histogram")
# Of each file: room for thousands of series.
_BYTES = 1024 * 1024


def in_memory() -> None:
    """Has this process keep them in memory, whatever the library would take from its environment."""
    values.ValueClass = values.MutexValue


def in_files(folder: Path, number: int) -> None:
    """Has this process, the worker of this number, keep in files those that it makes from now on.

    Raises OSError if there is no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = folder / f"{kind}_{number}.db"
        if not path.exists():
            new = path.with_suffix(".new")
            with new.open("wb") as file:
                # The library would leave holes, and a mapped hole for which the disk has no room when it is
                # written to ends the process at once (SIGBUS).
                os.posix_fallocate(file.fileno(), 0, _BYTES)
            # At once with its size, since the supervisor may look meanwhile.
            new.rename(path)
    # The library looks for it there.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # its authors'
