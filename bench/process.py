"""What the operating system says of a process."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident(pid: int | str = "self") -> int:
    """Returns the bytes of memory that the process has in use (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "VmRSS":
            return int(rest.split()[0]) * 1024
    raise AssertionError(f"process {pid} has no VmRSS")


def processor_seconds(pid: int | str = "self") -> float:
    """Returns how long the process has had a processor, by all its threads."""
    # The name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
