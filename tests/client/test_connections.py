"""A connection that hangs, or leads nowhere any more, is left for one that works."""

from __future__ import annotations

import operator
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from coherence.replicas import Replicas
from redis_server import RedisServer
from served import Served

from .either import KINDS, Either
from .scripted_service import ScriptedService
from .tcp_gate import TcpGate
from .test_wrong_services import in_chunks
from .threads import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A stream that is silent is given up after 3 seconds, and a connection after 15; machines may be busy.
SOON = 12.0
KEEPALIVE = 15.0
LARGE = "x" * 50_000

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def gate(server: Served) -> Iterator[TcpGate]:
    with TcpGate(server.address) as gate:
        yield gate


@pytest.fixture
def both(gate: TcpGate, server: Served) -> str:
    """Two addresses: what the first forwards to is as good as another server."""
    return f"ipv4:{gate.address},{server.address}"


def test_who_hangs_is_left_for_a_healthy_replica(kind: str, tmp_path: Path) -> None:
    with RedisServer() as redis:
        replicas = Replicas(tmp_path, redis)
        try:
            target = "ipv4:" + ",".join(server.address for server in replicas.servers)
            with Either(kind, target, timeout=60) as client:
                cache = client(lambda store: store.dict("d"))
                client.set(cache, "k", 1)
                replicas.servers[0].process.send_signal(signal.SIGSTOP)
                frozen = time.monotonic()
                client.set(cache, "k", 2)
                assert client(lambda store: store.get_value("d", "k")) == 2
                client(lambda store: store.set_value("d", "large", LARGE))
                assert time.monotonic() < frozen + SOON
                until(lambda: client(lambda _: cache.fresh))
                assert client(lambda _: cache["k"]) == 2
                replicas.servers[0].process.send_signal(signal.SIGCONT)
        finally:
            replicas.close()


def test_calls_in_flight_go_on_the_next_connection(kind: str, gate: TcpGate, both: str, domain: str) -> None:
    with Either(kind, both, timeout=60) as client:
        cache = client(lambda store: store.dict(domain))
        client.set(cache, "k", 1)
        before = client.store._stub.channel
        gate.hold_replies()
        began = time.monotonic()
        # Too large for the stream, so that it is a call of its own, and in flight when it is noticed.
        revision = client(lambda store: store.set_value(domain, "k", LARGE))
        assert time.monotonic() < began + SOON
        assert client(lambda store: store.get_entry(domain, "k")).revision == revision
        assert client.store._stub.channel is not before
        # Nor is another begun at each of the pings that follow.
        until(lambda: client(lambda _: cache.fresh))


def test_a_store_that_does_not_watch_leaves_who_hangs_by_keepalive(
    kind: str, gate: TcpGate, both: str, domain: str
) -> None:
    with Either(kind, both, timeout=60, watch=False) as client:
        client(lambda store: store.set_value(domain, "k", 1))
        gate.hold_replies()
        began = time.monotonic()
        client(lambda store: store.set_value(domain, "k", 2))
        assert time.monotonic() < began + KEEPALIVE + SOON


def test_a_stream_that_comes_up_at_another_peer_takes_the_calls_along(
    kind: str, server: Served, domain: str, tmp_path: Path
) -> None:
    with (
        Served("--data", tmp_path) as other,
        TcpGate(server.address) as gate,
        Either(kind, gate.address, timeout=60) as client,
    ):
        cache = client(lambda store: store.dict(domain))
        client.set(cache, "k", "at the first")
        before = client.store._stub.channel
        gate._target = ("127.0.0.1", int(other.address.rpartition(":")[2]))
        if kind == "threads":
            client.store._watching._threads[0].give_up()
        else:
            client.store._watching._relay._reading.give_up()
        until(lambda: client.store._stub.channel is not before)
        client.set(cache, "k", "at the second")
        with Either(kind, other.address, watch=False) as there:
            assert there(lambda store: store.get_value(domain, "k")) == "at the second"


def test_a_slow_line_is_no_reason_not_to_connect(kind: str, server: Served, domain: str) -> None:
    class Far(TcpGate):
        """Each connection takes 1.5 seconds, as with TLS by satellite."""

        def _relay(self, source: Any, sink: Any, replies: bool) -> None:
            time.sleep(1.5)
            super()._relay(source, sink, replies)

    with (
        Far(server.address) as gate,
        Either(kind, gate.address, timeout=60, watch=False) as client,
    ):
        client(lambda store: store.set_value(domain, "k", 1))


def test_calls_are_spread_over_replicas_if_that_is_wanted(kind: str, server: Served, domain: str) -> None:
    for balance, connected in (("pick_first", 1), ("round_robin", 2)):
        with (
            TcpGate(server.address) as one,
            TcpGate(server.address) as two,
            Either(
                kind, f"ipv4:{one.address},{two.address}", timeout=60, watch=False, balance=balance
            ) as client,
        ):
            assert_uses(connected, client, domain, [one, two])


def assert_uses(number: int, client: Either, domain: str, gates: list[TcpGate]) -> None:
    def used() -> int:
        client(lambda store: store.set_value(domain, "k", LARGE))
        return sum(bool(gate._connections) for gate in gates)

    until(lambda: used() == number)


def test_own_writes_are_read_whichever_replica_takes_them(kind: str, tmp_path: Path) -> None:
    with RedisServer() as redis:
        replicas = Replicas(tmp_path, redis)
        try:
            target = "ipv4:" + ",".join(server.address for server in replicas.servers)
            with Either(kind, target, timeout=60, balance="round_robin") as client:
                cache = client(lambda store: store.dict("d"))
                for number in range(60):
                    # Calls of their own, which take turns, and operations on the stream.
                    value = str(number) * (1 if number % 3 else 10_000)
                    client.set(cache, "k", value)
                    assert client(lambda _: dict.get(cache, "k")) in (value, None)
                    assert client(lambda store: store.get_value("d", "k")) == value
                    client(operator.methodcaller("set_value", "d", "other", value))
                    assert client(lambda store: store.get_value("d", "other")) == value
        finally:
            replicas.close()


def test_unknown_ways_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="balance must be 'pick_first' or 'round_robin', not 'random'"):
        Either(kind, "localhost:1", balance="random").__enter__()
    with pytest.raises(ValueError, match="proxy must be True or False, not str"):
        Either(kind, "localhost:1", proxy="http://proxy").__enter__()


@pytest.mark.parametrize("name", ["AllKeys", "ReadValue", "GetValue", "GetServerInfo", "WriteValue"])
def test_whatever_a_call_brings_shows_that_the_connection_is_well(kind: str, name: str) -> None:
    with ScriptedService(stream=False) as service, Either(kind, service.address, watch=False) as here:
        if name == "ReadValue":
            service.answers["GetValue"] = in_chunks
        acts: dict[str, Callable[[Any], Any]] = {
            "AllKeys": lambda store: store.dict("d"),
            "GetServerInfo": lambda store: store.server_info(),
            "WriteValue": lambda store: store.set_value("d", "k", bytes(8 * 1024 * 1024)),
        }
        before = time.monotonic()
        here(acts.get(name, lambda store: store.get_value("d", "k")))
        assert service.calls[-1:] == [name] or name == "WriteValue"
        assert here.store._watching._renewal._heard() > before
