"""What one client can do to a real server, and what another one notices of it."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import collections
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import neardict
from gated_backend import gated_server
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served
from waiting import DEADLINE_SECONDS
from wire import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
GET = "/neardict.v1.StorageService/GetValue"
# What values in flight may take of the server under test, in one direction and of one connection.
SHARE = 8 * MIB
# A value that goes out is there as a message, as its bytes, and in gRPC's hands.
COPIES = 4
SLACK = 64 * MIB


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    config = tmp_path / "neardict.toml"
    config.write_text(f"[limits]\nmax_value_bytes = {2 * MIB}\nmax_connection_bytes_in_flight = {SHARE}\n")
    with Served("--data", tmp_path / "data", "--config", config) as server:
        yield server


def connect(server: Served) -> grpc.Channel:
    """Returns a channel that shares its connection with no other."""
    return grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


def resident(server: Served, what: str = "VmHWM") -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024


def put(stub: Any, key: str, value: bytes, **options: Any) -> Any:
    return stub.SetValue(pb.SetValueRequest(domain="d", key=key, value=pb.Value(raw=value)), **options)


def serves_others(server: Served) -> None:
    """Another client reads and writes, small values and large ones."""
    with connect(server) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        for value in (b"small", b"x" * MIB):
            put(stub, "other", value, timeout=DEADLINE_SECONDS)
            found = stub.GetValue(pb.GetValueRequest(domain="d", key="other"), timeout=DEADLINE_SECONDS)
            assert found.entry.value.raw == value


async def _awaited(call: Any) -> Any:
    return await call


def test_ten_thousand_calls_at_once_are_all_answered(server: Served) -> None:
    codes: collections.Counter[grpc.StatusCode] = collections.Counter()
    over = threading.Semaphore(0)
    with connect(server) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        request = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="1"))

        def done(call: Any) -> None:
            codes[call.code()] += 1
            over.release()

        for _ in range(10_000):
            stub.SetValue.future(request, timeout=5 * DEADLINE_SECONDS).add_done_callback(done)
        serves_others(server)
        for _ in range(10_000):
            assert over.acquire(timeout=5 * DEADLINE_SECONDS)
    assert codes == {grpc.StatusCode.OK: 10_000}


def test_answers_that_nobody_reads_take_no_more_than_the_share(server: Served) -> None:
    with connect(server) as channel:
        put(storage_pb2_grpc.StorageServiceStub(channel), "k", b"x" * MIB)
        before = resident(server)
        # As a stream, of which nothing is read before it is asked for.
        get = channel.unary_stream(GET, pb.GetValueRequest.SerializeToString, pb.GetValueResponse.FromString)
        calls = [get(pb.GetValueRequest(domain="d", key="k")) for _ in range(1_000)]
        serves_others(server)
        assert resident(server) - before < COPIES * SHARE + SLACK
        # None is lost when he reads after all: whichever comes first, since it is for the others to wait.
        with ThreadPoolExecutor(100) as readers:
            assert all(answer.found for answer in readers.map(next, calls))
        assert resident(server) - before < COPIES * SHARE + SLACK


def test_who_goes_without_reading_gives_everything_back(server: Served) -> None:
    with connect(server) as channel:
        put(storage_pb2_grpc.StorageServiceStub(channel), "k", b"x" * MIB)
    for _ in range(5):
        with connect(server) as channel:
            get: Any = channel.unary_stream(GET, pb.GetValueRequest.SerializeToString, None)
            for _ in range(100):
                get(pb.GetValueRequest(domain="d", key="k"))
            serves_others(server)
    with connect(server) as channel:
        get_one = storage_pb2_grpc.StorageServiceStub(channel).GetValue
        for _ in range(20):
            assert get_one(pb.GetValueRequest(domain="d", key="k"), timeout=DEADLINE_SECONDS).found


def test_uploads_that_dribble_hold_up_nobody_else(server: Served) -> None:
    stop = threading.Event()

    def dribble() -> Iterator[pb.WriteValueRequest]:
        request = pb.SetValueRequest(domain="d", key="k", value=pb.Value(raw=b""))
        yield pb.WriteValueRequest(head=pb.WriteValueHead(request=request, size=2 * MIB))
        while not stop.wait(1):
            yield pb.WriteValueRequest(chunk=b"x")

    with connect(server) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        began = time.monotonic()
        uploads = [stub.WriteValue.future(dribble()) for _ in range(8)]
        serves_others(server)
        with connect(server) as other:
            whole = pb.SetValueRequest(domain="d", key="large", value=pb.Value(raw=b""))
            head = pb.WriteValueRequest(head=pb.WriteValueHead(request=whole, size=2 * MIB))
            chunks = [pb.WriteValueRequest(chunk=b"y" * (MIB // 4)) for _ in range(8)]
            write = storage_pb2_grpc.StorageServiceStub(other).WriteValue
            assert write(iter([head, *chunks]), timeout=DEADLINE_SECONDS).revision
        # The first of them lose their room, though a byte a second has come.
        assert refusal(uploads[0].exception()).reason == "UPLOAD_STALLED"
        assert time.monotonic() - began < 5 * DEADLINE_SECONDS
        stop.set()


async def test_values_that_wait_for_a_backend_are_refused_beyond_the_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"max_connection_bytes_in_flight": SHARE}
    async with gated_server(monkeypatch, limits=limits) as (backend, channel):
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        backend.hold("d")
        request = pb.SetValueRequest(domain="d", key="k", value=pb.Value(raw=b"x" * MIB))
        calls = [asyncio.ensure_future(_awaited(stub.SetValue(request))) for _ in range(12)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while sum(call.done() for call in calls) < 4:
                await asyncio.sleep(0.01)
        assert [call.done() for call in calls] == [False] * 8 + [True] * 4
        said = refusal(calls[8].exception())
        assert (said.code, said.reason) == (grpc.StatusCode.UNAVAILABLE, "TOO_MUCH_IN_FLIGHT")
        # Small ones pass, and others have a share of their own.
        small = pb.SetValueRequest(domain="free", key="k", value=pb.Value(raw=b"x"))
        await stub.SetValue(small, timeout=DEADLINE_SECONDS)
        backend.release("d")
        await asyncio.gather(*calls[:8])
        await stub.SetValue(request, timeout=DEADLINE_SECONDS)


def test_a_client_of_ours_gets_more_done_than_may_be_in_flight(server: Served) -> None:
    with neardict.connect(server.address, timeout=5 * DEADLINE_SECONDS) as store:
        values = {f"k{number}": os.urandom(MIB) for number in range(40)}
        store.set_many("many", values)
        assert store.get_many("many", values) == values


def test_connections_beyond_the_bound_are_closed_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text("[limits]\nmax_connections = 4\n")
    with Served("--data", tmp_path / "data", "--config", config) as server:
        host, _, port = server.address.rpartition(":")
        with connect(server) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            put(stub, "k", b"x", timeout=DEADLINE_SECONDS)
            idle = [socket.create_connection((host, int(port))) for _ in range(20)]
            # Those that are too many end at once, and who was there before is served.
            for one in idle:
                one.settimeout(DEADLINE_SECONDS)
            ended = [one for one in idle if _has_ended(one)]
            assert len(ended) == 17
            put(stub, "k", b"x", timeout=DEADLINE_SECONDS)
            for one in idle:
                one.close()
        serves_others(server)


def _has_ended(one: socket.socket) -> bool:
    """Returns whether the server has closed it, rather than said what it takes."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_clients_that_go_while_they_are_sent_something_fill_no_log(server: Served) -> None:
    with connect(server) as channel:
        put(storage_pb2_grpc.StorageServiceStub(channel), "k", b"x" * MIB)
    get = pb.Operation(get_value=pb.GetValueRequest(domain="d", key="k"))
    for _ in range(10):
        with connect(server) as channel:
            operations = []
            for number in range(1, 40):
                operations.append(pb.Operation(number=number))
                operations[-1].MergeFrom(get)
            stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
            next(stub.Execute(iter([pb.ExecuteRequest(operations=operations)])))
    assert server.stop() == 0
    assert "Traceback" not in server.output
