"""Stopping a server that is at work: what has begun is finished, what comes later is told to go elsewhere."""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served
from waiting import DEADLINE_SECONDS
from wire import Refusal, ask, refusal

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# A grace that nobody waits for here, and what is far below it also on a busy machine.
GRACE = {"NEARDICT_SHUTDOWN_GRACE_SECONDS": "60"}
AT_ONCE_SECONDS = 30.0
# Larger together than what fits on the way to a client that reads nothing.
LARGE_ENTRIES = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with Served("--data", tmp_path, env=GRACE) as server:
        yield server


@pytest.fixture
def channel(server: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def begin_listing(channel: grpc.Channel) -> Any:
    """Returns a listing whose first page has been read, and the rest of which waits for its reader."""
    stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
    for number in range(LARGE_ENTRIES):
        value = pb.Value(raw=bytes([number]) * 500_000)
        stub.SetValue(pb.SetValueRequest(domain="large", key=f"k{number}", value=value))
    listing = stub.AllKeys(pb.AllKeysRequest(domain="large", include_entries=True))
    next(listing)
    return listing


def until_draining(channel: grpc.Channel) -> Refusal:
    """Asks until the service refuses, and returns how."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while isinstance(answer := ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k")), bytes):
        assert time.monotonic() < deadline, "the server does not drain"
    return answer


def test_a_listing_under_way_is_sent_to_its_end(server: Served, channel: grpc.Channel) -> None:
    listing = begin_listing(channel)
    server.process.send_signal(signal.SIGTERM)
    until_draining(channel)
    entries = [entry for page in listing for entry in page.entries]
    assert len(entries) == LARGE_ENTRIES - 1
    assert {len(entry.value.raw) for entry in entries} == {500_000}
    assert server.process.wait(DEADLINE_SECONDS) == 0


def test_new_calls_are_refused_with_a_reason_and_health_says_so(
    server: Served, channel: grpc.Channel
) -> None:
    listing = begin_listing(channel)
    server.process.send_signal(signal.SIGTERM)
    refused = until_draining(channel)
    assert (refused.code, refused.domain, refused.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "neardict",
        "DRAINING",
    )
    write = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="1"))
    for method, request in (("SetValue", write), ("AllKeys", pb.AllKeysRequest(domain="d"))):
        answer = ask(channel, method, request)
        assert isinstance(answer, Refusal)
        assert answer.reason == "DRAINING"
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
    # Also for those who come now, such as a probe.
    with grpc.insecure_channel(server.address) as another:
        stub = health_pb2_grpc.HealthStub(another)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
    listing.cancel()
    assert server.process.wait(DEADLINE_SECONDS) == 0


def test_a_listing_that_nobody_reads_is_ended_when_the_grace_is_over(tmp_path: Path) -> None:
    with (
        Served("--data", tmp_path, env={"NEARDICT_SHUTDOWN_GRACE_SECONDS": "0.5"}) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        listing = begin_listing(channel)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_SECONDS) == 0
        assert 0.5 <= time.monotonic() - began < AT_ONCE_SECONDS
        with pytest.raises(grpc.RpcError) as caught:
            list(listing)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "1 calls are still under way after 0.5 seconds" in server.output


def test_a_listing_that_was_cancelled_holds_nothing_up(server: Served, channel: grpc.Channel) -> None:
    listing = begin_listing(channel)
    listing.cancel()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < AT_ONCE_SECONDS


def test_those_who_watch_the_health_are_told_and_hold_nothing_up(
    server: Served, channel: grpc.Channel
) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watching = stub.Watch(health_pb2.HealthCheckRequest())
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert next(watching).status == NOT_SERVING
    assert server.process.wait(DEADLINE_SECONDS) == 0
    assert time.monotonic() - began < AT_ONCE_SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_writes_under_way_are_acknowledged_and_kept_or_refused(
    number: signal.Signals, server: Served, channel: grpc.Channel
) -> None:
    stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
    acknowledged: list[dict[str, int]] = [{} for _ in range(8)]
    started = threading.Event()

    def write(writer: int) -> grpc.StatusCode:
        for step in itertools.count():
            key = f"{writer}-{step}"
            try:
                response = stub.SetValue(
                    pb.SetValueRequest(domain="d", key=key, value=pb.Value(json=str(step)))
                )
            except grpc.RpcError as error:
                return refusal(error).code
            acknowledged[writer][key] = response.revision
            if step == 5:
                started.set()
        raise AssertionError

    with ThreadPoolExecutor(len(acknowledged)) as writers:
        results = [writers.submit(write, writer) for writer in range(len(acknowledged))]
        assert started.wait(DEADLINE_SECONDS)
        assert server.stop(number) == 0
        codes = {result.result() for result in results}
        assert grpc.StatusCode.UNAVAILABLE in codes
        # What gRPC makes of a call that meets its own end, should a caller be slower than the notice.
        assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    server.start()
    with grpc.insecure_channel(server.address) as again:
        stub = storage_pb2_grpc.StorageServiceStub(again)
        pages = list(stub.AllKeys(pb.AllKeysRequest(domain="d", include_entries=True)))
    kept = {entry.key: entry.revision for page in pages for entry in page.entries}
    for told in acknowledged:
        assert told.items() <= kept.items()
