"""A run of the tests leaves neither processes nor folders behind; if it does, it fails and says which.

What it starts inherits a mark in its environment, by which it is found also when its parent has gone. What it
puts where temporary files go is in a folder of the run's own, which goes with the run if that has passed.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MARK = "TESTS_OF_NEARDICT"
PREFIX = "neardict-tests-"
PROCESSES = Path("/proc")
# For how long a process may take to end that was told to.
SECONDS = 20.0
POLL_SECONDS = 0.05

# Those of the interpreter, which end with it.
_PYTHONS_OWN = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")
# What is kept on purpose: pytest's folder, and an executable copy of redis-server.
_KEPT = ("pytest-of-", "neardict-redis-server-")


def watch(config: pytest.Config) -> None:
    """Watches this run. What pytest-xdist starts for it belongs to it."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Run(), "left-over")


class _Run:
    """A run of pytest, from its configuration to its end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._before = {name: os.environ.get(name) for name in (MARK, "TMPDIR")}
        os.environ |= {MARK: self._folder.name, "TMPDIR": str(self._folder)}
        tempfile.tempdir = None  # it is read from the environment anew
        self._left: list[str] = []
        self._kept = False

    # After pytest-xdist has ended its processes, and before the summary is written.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self._left = [*self._processes_left(), *self._files_left()]
        if self._left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._kept = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("left behind", red=True)
            for one in self._left:
                terminalreporter.line(one)
        if self._kept:
            terminalreporter.line(f"the temporary files of this run are in {self._folder}")

    def pytest_unconfigure(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tempfile.tempdir = None
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _processes_left(self) -> list[str]:
        """Waits for the processes of the run to end; kills and returns those that do not."""
        deadline = time.monotonic() + SECONDS
        while (found := dict(_running(self._folder.name))) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [f"the process {pid}: {command}" for pid, command in found.items()]

    def _files_left(self) -> list[str]:
        found = sorted(path.name for path in self._folder.iterdir() if not path.name.startswith(_KEPT))
        return [f"{self._folder / name}" for name in found]


def _running(mark: str) -> Iterator[tuple[int, str]]:
    """Yields the processes with the mark, and children of this one; where there is no /proc, none."""
    for folder in PROCESSES.glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
            # Name, state and parent; the name may contain anything.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended, or is somebody else's
        ours = f"{MARK}={mark}".encode() in environment.split(b"\0") or int(parent) == os.getpid()
        if ours and state != "Z" and not any(name in command for name in _PYTHONS_OWN):
            yield int(folder.name), command.replace(b"\0", b" ").decode(errors="replace").strip()
