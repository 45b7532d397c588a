"""The system of a run: servers, clients in processes of their own, and a proxy between each two."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from redis import Redis

import neardict
from coherence.history import Final, Op, Recorder, Stop, now
from coherence.proxy import Proxy
from kinds import write_config
from redis_server import RedisServer
from served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
DOMAIN = "soak.service_1"
READY_SECONDS = 60.0
# What these keep is gone when their process is.
FORGETTING = ("memory",)


def environment() -> dict[str, str]:
    """Returns what a process needs to import what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


class Server(Served):
    """`neardict serve`, or a mutant of it, where what this process imports can be imported."""

    def __init__(self, config: Path, data: Path, mistake: str) -> None:
        options: list[str | Path] = ["--config", config, "--data", data, "--log-level", "ERROR"]
        super().__init__(*options, env={"PYTHONPATH": environment()["PYTHONPATH"]})
        module = self._args.index("neardict_server")
        self._args[module : module + 1] = ["coherence.mutants", mistake]


class Client:
    """A worker process behind a proxy of its own."""

    def __init__(self, name: str, style: str, upstream: str, folder: Path, *, seed: int, rate: float) -> None:
        self.name = name
        self.style = style
        self._output = b""
        self.proxy = Proxy(upstream)
        self.proxy.__enter__()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "coherence.worker", "--target", self.proxy.address),
                *("--domain", DOMAIN, "--name", name, "--style", style, "--seed", str(seed)),
                *("--rate", str(rate), "--history", str(folder / f"{name}.jsonl")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    def tell(self, word: str) -> None:
        """Sends the worker a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def line(self) -> str:
        """Returns the worker's next line. Raises TimeoutError."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        while b"\n" not in self._output:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError(f"the worker {self.name} does not answer")
            self._output += chunk
        line, _, self._output = self._output.partition(b"\n")
        return line.decode()

    def end(self) -> None:
        """Ends the process at once, and the proxy."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.proxy.__exit__()


class System:
    """One or more servers of one backend, and clients that are spread over them."""

    def __init__(
        self, backend: str, folder: Path, *, seed: int, mistake: str = "none", rate: float = 15.0
    ) -> None:
        self.backend = backend
        self.folder = folder
        self._seed = seed
        self._mistake = mistake
        self._rate = rate
        self._count = 0
        self._opened = contextlib.ExitStack()
        self.redis = RedisServer(durable=True)
        self.redis_proxies: list[Proxy] = []
        self.servers: list[Server] = []
        self.clients: list[Client] = []

    def __enter__(self) -> Self:
        self.recorder = Recorder(self.folder / "system.jsonl")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in self.clients:
            client.end()
        self._opened.close()

    def serve(self, count: int = 1) -> None:
        """Starts the servers; more than one needs an engine that they share."""
        for number in range(count):
            data = self.folder / f"server-{number}"
            data.mkdir()
            if self.backend == "redis":
                self._opened.enter_context(self.redis)
                proxy = self._opened.enter_context(Proxy(f"{self.redis.host}:{self.redis.port}"))
                self.redis_proxies.append(proxy)
                config = data / "neardict.toml"
                port = proxy.address.rpartition(":")[2]
                config.write_text(f'[backends.redis]\nimplementation = "redis"\nsettings.port = {port}\n')
            else:
                config = write_config(data, self.backend, self.redis)
            self.servers.append(self._opened.enter_context(Server(config, data, self._mistake)))

    def join(self, *styles: str) -> None:
        """Starts clients of these styles, and waits until they work."""
        new = []
        for style in styles:
            self._count += 1
            server = self.servers[self._count % len(self.servers)]
            name = f"{style}{self._count}"
            new.append(Client(name, style, server.address, self.folder, seed=self._seed, rate=self._rate))
        self.clients += new
        for client in new:
            assert client.line() == "ready"

    def kill_server(self, server: Server, seconds: float) -> None:
        """Ends it with SIGKILL; after the seconds it is started again, where the proxies find it."""
        begin = now()
        server.kill()
        revision = time.time_ns() // 1000
        time.sleep(seconds)
        old = server.address
        server.start()
        if self.backend in FORGETTING:
            self.recorder.op(Op("wipe", "", "", None, begin, now(), revision=revision))
        for client in self.clients:
            if client.proxy.upstream == old:
                client.proxy.upstream = server.address

    def replace(self, client: Client) -> None:
        """Ends with SIGKILL a client, whose place another takes."""
        client.end()
        self.clients.remove(client)
        self.join(client.style)

    @contextlib.contextmanager
    def suspended(self, process: subprocess.Popen[bytes] | int, client: str = "") -> Iterator[None]:
        """SIGSTOP, and in the end SIGCONT; of a client its name is noted."""
        pid = process if isinstance(process, int) else process.pid
        begin = now()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            if client:
                self.recorder.other(Stop(client, begin, now()))

    def redis_client(self) -> Redis:
        """Returns a connection of our own to Redis itself; the caller closes it."""
        return Redis(self.redis.host, self.redis.port)

    def settle(self, seconds: float) -> None:
        """Ends the writing, and notes what the store and all views hold, as soon as it is the same."""
        for client in self.clients:
            client.proxy.heal()
            client.tell("rest")
        for client in self.clients:
            assert client.line() == "resting"
        deadline = time.monotonic() + seconds
        while True:
            stored = self._stored()
            views = {client.name: self._views(client) for client in self.clients}
            right = all(_agree(view, stored) for view in views.values())
            if right or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self.recorder.other(Final("", "", stored))
        for name, held in views.items():
            self.recorder.other(Final(name, "mirror", held.get("mirror", {})))
            self.recorder.other(Final(name, "cache", held.get("cache", {}), whole=False))

    def histories(self) -> list[Path]:
        """Returns the files that hold the run's history."""
        return list(self.folder.glob("*.jsonl"))

    def _stored(self) -> dict[str, Any]:
        with neardict.connect(self.servers[0].address, timeout=READY_SECONDS) as store:
            return {entry.key: entry.value for entry in store.all_entries(DOMAIN)}

    @staticmethod
    def _views(client: Client) -> dict[str, dict[str, Any]]:
        client.tell("final")
        views: dict[str, dict[str, Any]] = json.loads(client.line())
        return views


def _agree(views: dict[str, dict[str, Any]], stored: dict[str, Any]) -> bool:
    return views.get("mirror") == stored and views["cache"].items() <= stored.items()


def seeded(seed: int, what: str) -> random.Random:
    """Returns a source of choices for one purpose, which others do not disturb."""
    return random.Random(f"{seed} {what}")
