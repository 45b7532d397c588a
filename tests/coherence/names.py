"""A name of a host that leads where a test says, for processes that are started so: they see a file of the
test's own in the place of /etc/hosts, which resolvers read anew each time.

Linux, as root, with util-linux.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# A file is written in place, at once: a new one would not be seen where this one is mounted, and nobody shall
# find it half written.
_BYTES = 256
_MOUNT_AND_RUN = 'mount --bind "$0" /etc/hosts && exec "$@"'


class Name:
    """The name of one host, which leads to one address at a time, or is unknown, as the file says."""

    def __init__(self, name: str, path: Path, address: str) -> None:
        self.name = name
        self._path = path
        self.lead_to(address)
        # Starts a command for which the name leads there; the process stays the one that was started.
        self.under = ["unshare", "--mount", "--", "sh", "-c", _MOUNT_AND_RUN, str(path)]

    def lead_to(self, address: str | None) -> None:
        """From here on the name leads to this address, or nowhere, for those who look it up again."""
        text = "127.0.0.1 localhost\n"
        if address is not None:
            text += f"{address} {self.name}\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(file, text.ljust(_BYTES, "\n").encode())
        finally:
            os.close(file)


@cache
def why_not() -> str:
    """Returns why there can be no such names here; nothing if there can."""
    if os.name != "posix" or os.geteuid():
        return "it takes root"
    try:
        with tempfile.TemporaryDirectory() as folder:
            name = Name("name.test", Path(folder) / "hosts", "192.0.2.1")
            subprocess.run([*name.under, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no names of its own can be made: {error}"
    return ""
