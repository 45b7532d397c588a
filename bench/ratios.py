"""The ratios that CI holds: in a file that `make bench` writes, beside what is measured now."""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from .floors import Row, Unmeasured
from .measures.catalogue import CHECKED, Measure, take
from .measures.size import CHECK, Size

PATH = Path(__file__).parent / "ratios.toml"
# The part of what was recorded that is too little.
HALF = 0.5
TRIES = 3
NAMES = ("hit", "async_gets", "sync_gets", "sync_latency", "unary_stubs", "mirror_decoding")
_HEAD = """\
# How fast against the peer in the same run, more is better. `make bench` writes it; `make bench-check`, which
# CI runs, fails when one is half of it or less.
"""


def write(rows: Iterable[Row], path: Path = PATH) -> None:
    """Records the ratios of the rows that are checked."""
    speeds = {row.name: row.speed for row in rows}
    lines = [f"{name} = {speeds[name]:.3g}\n" for name in NAMES if name in speeds]
    path.write_text(_HEAD + "".join(lines), encoding="utf-8")


def check(
    path: Path, progress: Callable[[str], None], measures: Iterable[Measure] = CHECKED, size: Size = CHECK
) -> list[str]:
    """Returns a line for each ratio that has fallen by half, or could not be taken.

    What has fallen is measured up to TRIES times before it counts: something else may have been at work.
    """
    recorded: dict[str, float] = tomllib.loads(path.read_text(encoding="utf-8"))
    failures = []
    for measure in measures:
        for _ in range(TRIES):
            rows = take([measure], size, progress)
            for row in rows:
                if isinstance(row, Row):
                    progress(f"{row.name}: {row.speed:.3g}, recorded {recorded.get(row.name, '-')}")
            faults = [fault for row in rows if (fault := _fault(row, recorded))]
            if not faults:
                break
        failures += faults
    return failures


def _fault(row: Row | Unmeasured, recorded: dict[str, float]) -> str:
    if isinstance(row, Unmeasured):
        return f"{row.title}: not measured: {row.reason}"
    if row.name not in recorded:
        return f"{row.title}: {row.name} is not recorded: run make bench and check in what it writes"
    if row.speed > HALF * recorded[row.name]:
        return ""
    return (
        f"{row.title}: {row.speed:.3g} times its peer, and {recorded[row.name]:.3g} was recorded: "
        "find out what made it slower, or run make bench and say in the commit why it has to be"
    )
