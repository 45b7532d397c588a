"""Runs the real command `neardict`, in a pipe and on a terminal, as scripts and people do."""

import fcntl
import json
import math
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from processes import ended

NEARDICT = Path(sys.executable).with_name("neardict")
SECONDS = 60.0
POLL_SECONDS = 0.2


class Done(NamedTuple):
    """What a command left; on a terminal `out` holds both outputs, as a person sees them."""

    code: int
    out: bytes
    err: str = ""

    @property
    def text(self) -> str:
        return self.out.decode().replace("\r\n", "\n")

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.decode().splitlines()]

    @property
    def line(self) -> Any:
        (line,) = self.lines
        return line


class CommandLine:
    """`neardict ARGS` against the service at `target`."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, *args: str | bytes | Path, stdin: bytes = b"", **env: str) -> Done:
        done = subprocess.run(
            [NEARDICT, *args],
            input=stdin,
            capture_output=True,
            env=self.env(env),
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def start(self, *args: str | Path, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [NEARDICT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env(env)
        )

    def on_terminal(self, *args: str | Path, columns: int = 80) -> Done:
        """Gives the command a terminal, and nothing but."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = self.env({"PYTHONFAULTHANDLER": "1"})
        started = subprocess.Popen([NEARDICT, *args], stdin=its, stdout=its, stderr=its, env=env)
        os.close(its)
        seen = b""
        deadline = time.monotonic() + SECONDS
        with ended(started) as process:
            try:
                while True:
                    is_over = process.poll() is not None
                    if select.select([ours], [], [], POLL_SECONDS)[0]:
                        seen += os.read(ours, 65536)
                    elif is_over:
                        break  # somebody else holds the terminal
                    elif time.monotonic() > deadline:
                        process.send_signal(signal.SIGABRT)  # it tells where it hangs
                        deadline = math.inf
            except OSError:
                pass  # how a terminal says that nobody writes to it any more
            finally:
                os.close(ours)
            code = process.wait(SECONDS)
        assert code != -signal.SIGABRT, seen.decode()
        return Done(code, seen)

    def env(self, more: Mapping[str, str]) -> dict[str, str]:
        # Nothing of the machine's own settings may reach the command under test, nor pytest-xdist's.
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("NEARDICT_") and name not in ("COLUMNS", "LINES")
        }
        return own | {"NEARDICT_TARGET": self.target, "TERM": "xterm", **more}
