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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import neardict
from coherence.cable import IN_OWN_NETWORK, Cable
from coherence.checker import RETURN_SECONDS
from coherence.engines import DOMAIN, ENGINES
from coherence.history import Final, Kind, Op, Recorder, Return, Stop, now
from coherence.names import Name
from coherence.proxy import HOST, Proxy
from served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TESTS = Path(__file__).parents[1]
READY_SECONDS = 60.0
# What the clients call it who know it by a name.
SERVICE = "neardict.test"
# What is gone with the process of a server.
LOSES: dict[str, Kind] = {"memory": "wipe", "json": "forget"}


def environment() -> dict[str, str]:
    """Returns what a process needs to import what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


@dataclass(frozen=True)
class Work:
    """What the clients of a run have in common: a seed and writes per second; whether each has a cable, knows
    the service by a name, and lets entries expire; and the mistake that they make.
    """

    seed: int
    rate: float = 15.0
    cables: bool = False
    names: bool = False
    mortal: bool = True
    mistake: str = ""


class Server(Served):
    """`neardict serve`, or a mutant of it, where what this process imports can be imported.

    Workers, if there are several, make no mistakes.
    """

    def __init__(self, config: Path, data: Path, mistake: str, workers: int = 1) -> None:
        options: list[str | Path] = ["--config", config, "--data", data, "--log-level", "ERROR"]
        options += ["--workers", str(workers)]
        super().__init__(*options, env={"PYTHONPATH": environment()["PYTHONPATH"]})
        module = self._args.index("neardict_server")
        self._args[module : module + 1] = ["coherence.mutants", mistake]

    def complaints(self) -> list[str]:
        """Returns the lines that it has said since it was asked last, but for its address."""
        assert self.process.stdout is not None
        while not self.process.stdout.closed and select.select([self.process.stdout], [], [], 0)[0]:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                break
            self.output += chunk.decode(errors="replace")
        *lines, self.output = self.output.split("\n")
        # When it starts it tells its address, and where the domains are.
        return [f"server: {line}" for line in lines if not line.startswith(("listening on ", "  "))]


class Client:
    """A worker process behind a proxy of its own, and with a network of its own if it has a cable.

    If it knows the service by a name, that leads to the proxy.
    """

    def __init__(self, name: str, style: str, upstream: str, folder: Path, work: Work) -> None:
        self.name = name
        self.style = style
        self._output = b""
        self._opened = contextlib.ExitStack()
        self.cable = self._opened.enter_context(Cable()) if work.cables else None
        self._hosts = self.cable.hosts if self.cable else (HOST,)
        self.proxy = self._opened.enter_context(Proxy(upstream, *self._hosts))
        target = self.proxy.address
        self._name = Name(SERVICE, folder / f"{name}.hosts", self._hosts[0]) if work.names else None
        if self._name:
            target = f"{SERVICE}:{target.rpartition(':')[2]}"
        self._errors = folder / f"{name}.errors"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    *(IN_OWN_NETWORK if self.cable else []),
                    *(self._name.under if self._name else []),
                    *(sys.executable, "-m", "coherence.worker", "--target", target),
                    *("--domain", DOMAIN, "--name", name, "--style", style, "--seed", str(work.seed)),
                    *("--rate", str(work.rate), "--history", str(folder / f"{name}.jsonl")),
                    *(["--mortal"] if work.mortal else []),
                    *(["--mistake", work.mistake] if work.mistake else []),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(),
            )
        if self.cable:
            self.cable.plug(self.process)

    def set_clock(self, ahead: float) -> None:
        """Sets the worker's wall clock so many seconds ahead of the machine's."""
        self.tell(f"clock {ahead}")
        assert self.line() == f"clock {ahead}"

    def leave(self, *, silent: bool) -> str:
        """The service is not any more where the client knows it; returns where it will be.

        The old address is nobody's, if `silent`, or refuses connections.
        """
        old = self.proxy.address.rpartition(":")[0]
        assert self.cable is not None
        (new,) = {*self.cable.hosts} - {old}
        self.cable.take(new)
        if silent:
            self.cable.give_up(old)
        self.proxy.move(new)
        return new

    def lead_to(self, host: str | None) -> None:
        """From here on the name of the service leads there, or is unknown."""
        assert self._name is not None
        self._name.lead_to(host)

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
        """Ends the process at once, and what was made for it."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._opened.close()

    def complaints(self) -> list[str]:
        """Returns the lines of the worker's standard error, and one more if it has ended by itself."""
        lines = self._errors.read_text(errors="replace").splitlines()
        if self.process.poll() is not None:
            lines.append(f"ended with code {self.process.returncode}")
        return [f"{self.name}: {line}" for line in lines]


class System:
    """One or more servers of one backend, and clients that are spread over them."""

    def __init__(
        self, backend: str, folder: Path, work: Work, *, mistake: str = "none", workers: int = 1
    ) -> None:
        self.backend = backend
        self.folder = folder
        self._work = work
        self._mistake = mistake
        self._workers = workers
        self._count = 0
        self._opened = contextlib.ExitStack()
        self.engine = ENGINES[backend]() if backend in ENGINES else None
        self._complaints: list[str] = []
        self.servers: list[Server] = []
        self.clients: list[Client] = []

    def __enter__(self) -> Self:
        self.recorder = Recorder(self.folder / "system.jsonl")
        if self.engine:
            self._opened.enter_context(self.engine)
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
            name = "redis" if self.engine else self.backend
            lines = [f"[backends.{name}]", f'implementation = "{name}"']
            for setting, value in (self.engine.settings() if self.engine else {}).items():
                lines.append(f"settings.{setting} = {json.dumps(value)}")  # which is TOML too
            config = data / "neardict.toml"
            config.write_text("\n".join(lines))
            self.servers.append(
                self._opened.enter_context(Server(config, data, self._mistake, self._workers))
            )

    def join(self, *styles: str) -> None:
        """Starts clients of these styles, and waits until they work."""
        new = []
        for style in styles:
            self._count += 1
            server = self.servers[self._count % len(self.servers)]
            name = f"{style}{self._count}"
            new.append(Client(name, style, server.address, self.folder, self._work))
        self.clients += new
        for client in new:
            assert client.line() == "ready"

    def kill_server(self, server: Server, seconds: float) -> None:
        """Ends it with SIGKILL; after the seconds it is started again, where the proxies find it."""
        begin = now()
        server.kill()
        self._complaints += server.complaints()
        revision = time.time_ns() // 1000
        time.sleep(seconds)
        old = server.address
        server.start()
        if loss := LOSES.get(self.backend):
            self.recorder.op(Op(loss, "", "", None, begin, now(), revision=revision))
        for client in self.clients:
            if client.proxy.upstream == old:
                client.proxy.upstream = server.address

    def clients_of(self, server: Server) -> list[Client]:
        """Returns the clients that are connected to the server."""
        return [client for client in self.clients if client.proxy.upstream == server.address]

    def await_return(self, clients: Sequence[Client], begin: float) -> None:
        """Notes when the clients' calls have reached the service after a fault that was over at `begin`."""
        for client in clients:
            client.tell(f"reach {RETURN_SECONDS + 1}")
        for client in clients:
            self.recorder.other(Return(client.name, begin, float(client.line())))

    def replace(self, client: Client) -> None:
        """Ends with SIGKILL a client, whose place another takes."""
        self._complaints += client.complaints()
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

    def complaints(self) -> list[str]:
        """Returns what all processes have said that they should not, one line each."""
        for server in self.servers:
            self._complaints += server.complaints()
        return self._complaints + [line for client in self.clients for line in client.complaints()]

    def settle(self, seconds: float) -> None:
        """Ends the writing, and notes what the store and all views hold, as soon as it is the same."""
        for client in self.clients:
            client.tell("rest")
        for client in self.clients:
            assert client.line() == "resting"
        deadline = time.monotonic() + seconds
        while True:
            begin = now()
            stored = self._stored()
            end = now()
            views = {client.name: self._views(client) for client in self.clients}
            right = all(_agree(view, stored) for view in views.values())
            if right or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self.recorder.other(Final("", "", stored, begin=begin, end=end))
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
