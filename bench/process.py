"""What the operating system says of a process."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident(pid: int | str = "self") -> int:
    """Returns the bytes of memory that the process has in use."""
    return _status(pid, "VmRSS")


def peak(pid: int | str = "self") -> int:
    """Returns the most bytes that it has had in use since it began, or since `reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak() -> None:
    """Has `peak` of this process begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def processor_seconds(pid: int | str = "self") -> float:
    """Returns how long the process has had a processor, by all its threads."""
    # The name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _status(pid: int | str, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise AssertionError(f"process {pid} has no {field}")
