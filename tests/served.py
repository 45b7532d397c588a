"""Runs the real server as a process of its own, as a user does."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from waiting import DEADLINE_SECONDS

START_SECONDS = 2 * DEADLINE_SECONDS
STOP_SECONDS = DEADLINE_SECONDS


class Served:
    """`neardict serve ARGS` while the context lasts; `address` is what its first line says.

    `under` is a command that becomes the one that follows it.
    """

    def __init__(
        self,
        *args: str | Path,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self._args = [*under, sys.executable, "-m", "neardict_server", *map(str, args)]
        if "--listen" not in args:
            self._args += ["--listen", "127.0.0.1:0"]
        # Nothing of the machine's own settings may reach the server under test.
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("NEARDICT_")} | (env or {})
        self._cwd = cwd
        self.address = ""
        self.output = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._collect()

    def start(self) -> None:
        """Starts the process and waits for its address; raises RuntimeError with its output otherwise."""
        self.process = subprocess.Popen(
            self._args,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._env | {"PYTHONUNBUFFERED": "1"},
            cwd=self._cwd,
        )
        assert self.process.stdout is not None
        seen = b""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(rb"^listening on (\S+)\n", seen, re.MULTILINE)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            seen += chunk
            if not chunk:
                self.process.kill()
                self._collect()
                raise RuntimeError(f"the server did not start: {seen.decode()}")
        self.address = found[1].decode()
        self.output = seen.decode()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_SECONDS)
        self._collect()
        return code

    def kill(self) -> None:
        """Ends the process at once, with SIGKILL."""
        self.stop(signal.SIGKILL)

    def _collect(self) -> None:
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.output += self.process.stdout.read().decode()
            self.process.stdout.close()
        self.process.wait(STOP_SECONDS)
