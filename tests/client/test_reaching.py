"""How a client finds the way to the service: names, proxies of the environment, and what gRPC says of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

import neardict
from neardict import _proxies
from redis_server import free_port
from served import Served

from .either import KINDS, Either
from .threads import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 60.0
PROXIES = ["http_proxy", "https_proxy", "grpc_proxy", "GRPC_ADDRESS_HTTP_PROXY"]


class Proxy:
    """An HTTP proxy, which takes CONNECT. `asked` is for what."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(DEADLINE)

    def _start(self, target: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(1)
                self.asked.append(head.split()[1].decode())
                host, _, port = self.asked[-1].rpartition(":")
                server = socket.create_connection((host, int(port)))
                self._sockets.append(server)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._start(self._relay, client, server)
                self._start(self._relay, server, client)

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in ("no_proxy", "no_grpc_proxy", *PROXIES):
        monkeypatch.delenv(name, raising=False)
    with Proxy() as proxy:
        yield proxy


def use(kind: str, target: str, domain: str, **options: Any) -> None:
    """Uses each of a store's connections."""
    with Either(kind, target, timeout=DEADLINE, **options) as client:
        cache = client(lambda store: store.dict(domain))
        client.set(cache, "small", 1)
        client.set(cache, "large", "x" * 50_000)
        until(lambda: client(lambda _: cache.fresh))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", PROXIES)
def test_proxies_of_the_environment_are_not_used(
    kind: str, variable: str, server: Served, domain: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = variable == "GRPC_ADDRESS_HTTP_PROXY"
    monkeypatch.setenv(variable, proxy.place if direct else f"http://{proxy.place}")
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
    use(kind, server.address, domain)
    assert proxy.asked == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_is_used_by_every_connection_if_that_is_wanted(
    kind: str, server: Served, domain: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
    use(kind, server.address, domain, proxy=True)
    # One for calls, one for the changes; with asyncio the stream of operations has its own.
    assert proxy.asked == [server.address] * (2 if kind == "threads" else 3)


@cache
def no_mounts() -> str:
    """Returns why a process cannot have a file of hosts of its own here; nothing if it can."""
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


WRITER = """
import asyncio, sys, neardict
from neardict import aio

kind, target, watch = sys.argv[1:]

def line(number):
    print(number, flush=True)
    return sys.stdin.readline()

def threads():
    with neardict.connect(target, timeout=60, watch=watch == "watches") as store:
        d = store.dict("d")
        number = 0
        while line(number):
            number += 1
            d["k"] = number
            assert store.get_value("d", "k") == number

async def main():
    async with aio.connect(target, timeout=60, watch=watch == "watches") as store:
        d = await store.dict("d")
        number = 0
        while line(number):
            number += 1
            await d.set("k", number)
            assert await store.get_value("d", "k") == number

threads() if kind == "threads" else asyncio.run(main())
"""
# A look-up after the loss, half a second until the next, an attempt to connect. It was half a minute.
NEW_ADDRESS_SECONDS = 12.0


# One that watches is led there by the stream of changes, which asks for each connection.
@pytest.mark.parametrize("watch", ["watches", "does not watch"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_gets_another_address_is_asked_again(kind: str, watch: str, tmp_path: Path) -> None:
    if reason := no_mounts():
        pytest.skip(f"no mounts of a process's own: {reason}")
    hosts, port = tmp_path / "hosts", free_port()
    hosts.write_text("127.0.0.2 service.test\n")
    mounted = f'mount --bind "{hosts}" /etc/hosts && exec "$@"'
    command = ["unshare", "--mount", "--", "sh", "-c", mounted, "sh", sys.executable, "-c", WRITER]
    first = Served("--data", tmp_path / "data", "--listen", f"127.0.0.2:{port}")
    second = Served("--data", tmp_path / "data", "--listen", f"127.0.0.3:{port}")
    with (
        first,
        subprocess.Popen(
            [*command, kind, f"service.test:{port}", watch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        try:
            assert client.stdin is not None
            assert client.stdout is not None

            def write() -> None:
                print(file=client.stdin, flush=True)

            assert client.stdout.readline() == "0\n"
            write()
            assert client.stdout.readline() == "1\n"
            first.kill()
            with second:
                # In place, as a container engine does it: another file would not be mounted.
                hosts.write_text("127.0.0.3 service.test\n")
                began = time.monotonic()
                write()
                assert client.stdout.readline() == "2\n"
                assert time.monotonic() < began + NEW_ADDRESS_SECONDS
                client.stdin.close()
                assert client.wait(DEADLINE) == 0
        finally:
            client.kill()


class Rude:
    """A server that speaks HTTP/2 as far as it takes to end each connection with GOAWAY, too_many_pings."""

    _SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    _DEBUG = b"too_many_pings"
    _GOAWAY = bytes([0, 0, 8 + len(_DEBUG), 7, 0, 0, 0, 0, 0]) + bytes(4) + (11).to_bytes(4, "big") + _DEBUG

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.ended = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.sendall(self._SETTINGS)
                connection.recv(65536)
                connection.sendall(self._GOAWAY)
                self.ended += 1
                connection.settimeout(DEADLINE)
                while connection.recv(65536):
                    pass


ASK = """
import sys, neardict
try:
    neardict.connect(sys.argv[1], timeout=2).get_value("d", "k")
except neardict.NeardictError as error:
    print(type(error).__name__)
"""


def asked(program: str, target: str, **env: str) -> tuple[str, str]:
    """Runs the program, and returns what is on its stdout and stderr."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", program, target],
        env=plain | env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout, done.stderr


def test_what_grpc_logs_by_itself_does_not_reach_stderr() -> None:
    with Rude() as server:
        stdout, stderr = asked(ASK, server.address)
        assert stdout in ("UnavailableError\n", "DeadlineExceededError\n")
        assert stderr == ""
        assert server.ended
        # Who wants to see it does.
        assert "too_many_pings" in asked(ASK, server.address, GRPC_VERBOSITY="ERROR")[1]


@pytest.mark.parametrize("first", ["neardict", "grpc"])
def test_the_environment_stays_as_it_was(first: str) -> None:
    program = (
        f"import os; before = dict(os.environ); import {first}; "
        "import neardict, neardict.aio; print(before == dict(os.environ))"
    )
    assert asked(program, "") == ("True\n", "")


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, neardict.PermissionDeniedError, r"answered 401 \(unauthorized\)"),
        (403, neardict.PermissionDeniedError, r"answered 403 \(forbidden\)"),
        (404, neardict.ServiceError, r"answered 404 \(not found\).* does not forward"),
        (413, neardict.LimitExceededError, r"answered 413 \(content too large\).*client_max_body_size 0"),
        (418, neardict.ServiceError, "answered 418 in place of neardict"),
        (429, neardict.UnavailableError, r"answered 429 \(too many requests\)"),
        (502, neardict.UnavailableError, r"answered 502 \(bad gateway\).*cannot reach neardict"),
        (503, neardict.UnavailableError, r"answered 503 \(service unavailable\)"),
        (504, neardict.UnavailableError, r"answered 504 \(gateway timeout\).*in time"),
    ],
)
def test_an_error_names_the_status_of_a_proxy(
    status: int, kind: type[neardict.NeardictError], says: str
) -> None:
    error = _proxies.explained(f"Received http2 header with status: {status}", "here:1")
    assert type(error) is kind
    assert "at here:1" in str(error)
    assert re.search(says, str(error))


@pytest.mark.parametrize("kind", KINDS)
def test_who_speaks_another_protocol_is_said_to(kind: str, domain: str) -> None:
    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    web = HTTPServer(("127.0.0.1", 0), Quiet)
    serving = threading.Thread(target=web.serve_forever)
    serving.start()
    try:
        with (
            Either(kind, f"127.0.0.1:{web.server_port}", watch=False, timeout=5) as client,
            # The second, if the last attempt was in flight when the time was over.
            pytest.raises(
                (neardict.UnavailableError, neardict.DeadlineExceededError), match="does not speak HTTP/2"
            ),
        ):
            client(lambda store: store.server_info())
    finally:
        web.shutdown()
        serving.join()
        web.server_close()
