"""The page of the figures: what is between the marks of a part is written by the bench."""

import os
import platform
from importlib import metadata
from pathlib import Path

from .operations import VALUE_BYTES


def surroundings(command: str, load: tuple[float, float]) -> str:
    """Returns a paragraph on what the figures were taken on; `load` is the average before and after."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("grpcio", "protobuf", "redis"))
    return (
        f"`{command}`, on one machine: {_processor()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}, {versions}. Load average before "
        f"{load[0]:.1f}, after {load[1]:.1f}, of which about 2 are the benchmark's own. "
        f"{VALUE_BYTES}-byte JSON values."
    )


def marks(part: str) -> tuple[str, str]:
    """Returns the lines between which the page has the figures of a part."""
    return f"<!-- {part}: begin; `make bench` writes it -->", f"<!-- {part}: end -->"


def has_marks(path: Path, part: str) -> bool:
    """Returns whether `write` can put the figures of the part into the page."""
    begin, end = marks(part)
    return end in path.read_text(encoding="utf-8").partition(begin)[2]


def write(path: Path, part: str, text: str) -> None:
    """Replaces what is between the marks of the part in the page."""
    begin, end = marks(part)
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
