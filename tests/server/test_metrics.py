"""What an operator can read of a server over HTTP."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

import neardict
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.backends import base, batches
from neardict_server.backends.memory import MemoryBackend
from neardict_server.changes.turns import Turns
from neardict_server.changes.watcher import Watcher
from neardict_server.errors import BackendUnavailableError, ConditionFailedError
from neardict_server.metrics import endpoint
from neardict_server.metrics.keeping import KINDS
from neardict_server.metrics.measures import Measures
from redis_server import RedisServer
from served import Served
from starting import start_and_fail
from wire import Refusal, ask
from worker_processes import (
    DEADLINE_SECONDS,
    POLL_SECONDS,
    channel_of_each,
    until_gone,
    until_there_are,
    workers_of,
    write_shared,
)

METRICS = {"NEARDICT_METRICS_LISTEN": "127.0.0.1:0"}


def read(server: Served) -> str:
    """Returns what the server tells at the URL that it printed."""
    with urllib.request.urlopen(url_of(server), timeout=DEADLINE_SECONDS) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text: str = response.read().decode()
    return text


def url_of(server: Served) -> str:
    """Returns where the server tells its metrics, as it says behind its address."""
    assert server.process.stdout is not None
    while not (found := re.search(r"^metrics at (\S+)\n", server.output, re.MULTILINE)):
        ready, _, _ = select.select([server.process.stdout], [], [], DEADLINE_SECONDS)
        said = os.read(server.process.stdout.fileno(), 65536) if ready else b""
        assert said, server.output
        server.output += said.decode()
    return found[1]


def total(server: Served, name: str, **labels: str) -> float | None:
    """Returns the sum of the samples that have these labels, None if there is none."""
    families = text_string_to_metric_families(read(server))
    found = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def until(server: Served, value: float, name: str, **labels: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := total(server, name, **labels)) != value:
        assert time.monotonic() < deadline, found
        time.sleep(POLL_SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with Served("--data", tmp_path / "data", env=METRICS) as server:
        yield server


def test_operations_are_counted_one_by_one_however_they_travel(server: Served) -> None:
    with neardict.connect(server.address, watch=False) as store:
        store.set_many("d", {str(number): number for number in range(50)})
        store.get_value("d", "1")
        store.delete_key("d", "1")
        with pytest.raises(neardict.ConflictError):
            store.set_value("d", "2", 0, if_absent=True)
        with pytest.raises(neardict.InvalidArgumentError):
            store.set_value("d", "deep", json.loads("[" * 100 + "]" * 100))
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(3):
            ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k"))
        assert isinstance(ask(channel, "GetValue", pb.GetValueRequest(domain="", key="k")), Refusal)
        list(storage_pb2_grpc.StorageServiceStub(channel).AllKeys(pb.AllKeysRequest(domain="d")))
    operations = "neardict_operations_total"
    assert total(server, operations, backend="sqlite", operation="SetValue", code="OK") == 50
    assert total(server, operations, backend="sqlite", operation="SetValue", code="Aborted") == 1
    assert total(server, operations, backend="sqlite", operation="GetValue", code="OK") == 4
    assert total(server, operations, backend="sqlite", operation="DeleteKey", code="OK") == 1
    assert total(server, operations, backend="sqlite", operation="AllKeys", code="OK") == 1
    assert total(server, operations) == 57
    assert total(server, "neardict_operations_refused_total", code="InvalidArgument") == 1
    calls = "grpc_server_handled_total"
    assert total(server, calls, grpc_method="GetValue", grpc_code="OK", grpc_type="unary") == 3
    assert total(server, calls, grpc_method="GetValue", grpc_code="InvalidArgument") == 1
    assert total(server, calls, grpc_method="AllKeys", grpc_code="OK", grpc_type="server_stream") == 1
    assert total(server, "grpc_server_started_total", grpc_method="GetValue") == 4
    assert total(server, "grpc_server_handling_seconds_count", grpc_method="GetValue") == 4
    assert total(server, "neardict_backend_seconds_count", operation="GetValue") == 3
    batches = total(server, "neardict_backend_seconds_count", operation="Execute")
    assert batches is not None
    assert 4 <= batches < 54
    took = total(server, "neardict_backend_seconds_sum", operation="Execute")
    assert took is not None
    assert 0 < took < DEADLINE_SECONDS
    assert total(server, "process_resident_memory_bytes")


def test_what_is_under_way_and_watched_goes_up_and_down(server: Served) -> None:
    assert total(server, "neardict_subscriptions") == 0
    with neardict.connect(server.address) as store:
        store.dict("one").load()
        store.dict("two").load()
        until(server, 2, "neardict_subscriptions", backend="sqlite")
        until(server, 1, "neardict_calls_under_way", grpc_method="Watch")
    until(server, 0, "neardict_subscriptions", backend="sqlite")
    until(server, 0, "neardict_calls_under_way")
    assert total(server, "grpc_server_handled_total", grpc_method="Watch") == 1


def test_a_call_whose_client_has_gone_counts_as_cancelled(server: Served) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for number in range(40):
            value = pb.Value(raw=bytes(500_000))
            ask(channel, "SetValue", pb.SetValueRequest(domain="large", key=str(number), value=value))
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        listing = stub.AllKeys(pb.AllKeysRequest(domain="large", include_entries=True))
        next(listing)
        until(server, 1, "neardict_calls_under_way", grpc_method="AllKeys")
        listing.cancel()
    until(server, 0, "neardict_calls_under_way", grpc_method="AllKeys")
    assert total(server, "grpc_server_handled_total", grpc_method="AllKeys", grpc_code="Canceled") == 1
    assert total(server, "neardict_operations_total", operation="AllKeys", code="Canceled") == 1


def test_it_tells_no_domain_key_or_value(server: Served) -> None:
    with neardict.connect(server.address) as store:
        near = store.dict("a-private-domain")
        near["a-private-key"] = "a-private-value"
        assert near["a-private-key"] == "a-private-value"
        assert "private" not in read(server)
    assert "private" not in read(server)


def test_a_call_that_is_not_answered_in_time_counts_as_such(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        Served("--config", write_shared(tmp_path, redis), env=METRICS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        # Connected, so that the next call reaches the server in its short time.
        stub.GetServerInfo(pb.GetServerInfoRequest(), wait_for_ready=True)
        redis.pause()
        try:
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetValue(pb.GetValueRequest(domain="d", key="k"), timeout=1.0)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            labels = {"grpc_method": "GetValue", "grpc_code": "DeadlineExceeded"}
            until(server, 1, "grpc_server_handled_total", **labels)
        finally:
            redis.resume()


async def test_what_backends_raise_is_counted_by_its_status_alone_or_in_a_batch() -> None:
    measures = Measures("1")
    memory = MemoryBackend()
    metered = measures.backend("b", memory)
    with pytest.raises(ConditionFailedError):
        await metered.set_value("d", "k", "1", condition=7)
    await batches.execute(metered, "d", [base.Set("k", "1"), base.Set("k", "1", condition=7), base.Get("k")])

    async def broken(*args: object, **options: object) -> base.Written:
        raise BackendUnavailableError("down")

    memory.set_value = broken  # type: ignore[method-assign]  # as an engine that is down
    await batches.execute(metered, "d", [base.Set("k", "2"), base.Set("k", "2")])

    def counted(operation: str, code: str) -> float | None:
        labels = {"backend": "b", "operation": operation, "code": code}
        return measures.registry.get_sample_value("neardict_operations_total", labels)

    assert counted("SetValue", "Aborted") == 2
    assert counted("SetValue", "Unavailable") == 2
    assert counted("SetValue", "OK") == 1
    assert counted("GetValue", "OK") == 1


def test_a_value_that_is_too_large_to_be_sent_counts_as_refused(tmp_path: Path) -> None:
    env = METRICS | {"NEARDICT_LIMITS__MAX_VALUE_BYTES": str(8 * 1024 * 1024)}
    with (
        Served("--data", tmp_path / "data", env=env) as server,
        neardict.connect(server.address, watch=False) as store,
    ):
        assert total(server, "neardict_operations_refused_total") == 0
        store.set_value("d", "large", bytes(5 * 1024 * 1024))
        assert len(store.get_value("d", "large")) == 5 * 1024 * 1024
        assert total(server, "neardict_operations_refused_total", code="ResourceExhausted") == 1


async def test_a_reset_is_counted_with_its_reason() -> None:
    measures = Measures("1")
    hub, watcher = measures.hub("b"), Watcher(Turns())
    hub.reset(watcher, "d", pb.Reset.REASON_SLOW_CONSUMER)
    labels = {"backend": "b", "reason": "SLOW_CONSUMER"}
    assert measures.registry.get_sample_value("neardict_subscription_resets_total", labels) == 1


def test_without_the_setting_nothing_is_told(tmp_path: Path) -> None:
    with Served("--data", tmp_path / "data") as server:
        assert server.stop() == 0
        assert "metrics" not in server.output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_named(workers: str, tmp_path: Path, redis: RedisServer) -> None:
    config = write_shared(tmp_path, redis)
    taken = f"127.0.0.1:{redis.port}"
    said = start_and_fail("--config", config, "--workers", workers, env={"NEARDICT_METRICS_LISTEN": taken})
    assert f"Error: metrics_listen: cannot listen on {taken} (Address already in use)" in said


def test_an_address_that_is_none_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    said = start_and_fail("--data", tmp_path, env={"NEARDICT_METRICS_LISTEN": "9464"})
    assert "metrics_listen: must be HOST:PORT" in said


# Several workers.


def test_several_workers_are_counted_together_and_no_sum_goes_down_when_one_is_killed(
    tmp_path: Path, redis: RedisServer
) -> None:
    with Served("--config", write_shared(tmp_path, redis), "--workers", "2", env=METRICS) as server:
        sets = {"name": "neardict_operations_total", "operation": "SetValue"}
        expected = 0
        with channel_of_each(server) as channels:
            for number, channel in enumerate(channels.values(), 1):
                for _ in range(number):
                    write = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="1"))
                    assert isinstance(ask(channel, "SetValue", write), bytes)
                expected += number
            assert total(server, **sets) == expected == 3
            assert total(server, "neardict_worker_up") == 2
            assert total(server, "neardict_worker_ends_total") == 0
            # One of them has a stream open when it dies.
            [victim, *_] = channels
            over = threading.Event()
            watch = storage_pb2_grpc.StorageServiceStub(channels[victim]).Watch(pinged_once(over))
            next(watch)
            until(server, 1, "neardict_calls_under_way", grpc_method="Watch")
            os.kill(victim, signal.SIGKILL)
            over.set()
            until_there_are(2, server, without=victim)
        until(server, 2, "neardict_worker_up")
        until(server, 0, "neardict_calls_under_way")
        assert total(server, "neardict_worker_ends_total") == 1
        assert total(server, **sets) == expected
        with channel_of_each(server) as channels:
            for channel in channels.values():
                write = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="2"))
                assert isinstance(ask(channel, "SetValue", write), bytes)
        assert total(server, **sets) == expected + 2
        assert server.stop() == 0


def pinged_once(over: threading.Event) -> Iterator[pb.WatchRequest]:
    yield pb.WatchRequest(ping=pb.Ping())
    assert over.wait(DEADLINE_SECONDS)


def test_the_figures_of_workers_leave_nothing_behind_for_the_next_server(
    tmp_path: Path, redis: RedisServer
) -> None:
    arguments = ("--config", write_shared(tmp_path, redis), "--workers", "2")
    kept = tmp_path / "data/metrics"
    with Served(*arguments, env=METRICS) as server:
        assert {path.name for path in kept.glob("*.*")} == {
            f"{kind}_{number}.db" for kind in KINDS for number in (1, 2)
        }
        workers = workers_of(server)
        with grpc.insecure_channel(server.address) as channel:
            ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k"))
        server.process.kill()
        until_gone(workers)
    with Served(*arguments, env=METRICS) as server:
        assert total(server, "neardict_operations_total") == 0
        assert server.stop() == 0
    assert [path.name for path in kept.iterdir()] == ["lock"]


def test_servers_do_not_share_the_folder_of_their_figures(tmp_path: Path, redis: RedisServer) -> None:
    arguments = ("--config", write_shared(tmp_path, redis), "--workers", "2")
    with Served(*arguments, env=METRICS):
        said = start_and_fail(*arguments, env=METRICS)
    assert "metrics_listen: workers keep their metrics in data_dir" in said
    assert "in use by another neardict server" in said


def test_a_worker_without_room_for_its_figures_serves_without_them(
    tmp_path: Path, redis: RedisServer
) -> None:
    arguments = ("--config", write_shared(tmp_path, redis), "--workers", "2")
    with Served(*arguments, env=METRICS) as server:
        kept = tmp_path / "data/metrics"
        for file in kept.iterdir():
            file.unlink()
        kept.rmdir()
        kept.write_text("of somebody else")
        [victim, _] = workers_of(server)
        os.kill(victim, signal.SIGKILL)
        until_there_are(2, server, without=victim)
        with channel_of_each(server) as channels:
            for channel in channels.values():
                assert isinstance(ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k")), bytes)
        until(server, 2, "neardict_worker_up")
        assert server.stop() == 0
    assert "what this worker does is not in the metrics" in server.output


def test_connections_that_ask_for_nothing_are_few_and_do_not_last(server: Served) -> None:
    host, port = url_of(server).removeprefix("http://").removesuffix("/metrics").split(":")
    with contextlib.ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection((host, int(port))))
            for _ in range(3 * endpoint.MOST_CONNECTIONS)
        ]
        threads = Path(f"/proc/{server.process.pid}/task")
        assert len(list(threads.iterdir())) < 3 * endpoint.MOST_CONNECTIONS
        for connection in idle:
            connection.settimeout(DEADLINE_SECONDS)
            assert connection.recv(1) == b""
        assert total(server, "neardict_build_info") == 1


def test_variables_of_other_programs_change_nothing(tmp_path: Path) -> None:
    env = METRICS | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}
    with Served("--data", tmp_path / "data", env=env) as server:
        assert total(server, "neardict_build_info") == 1


def test_it_listens_on_ipv6_too(tmp_path: Path) -> None:
    env = {"NEARDICT_METRICS_LISTEN": "[::1]:0"}
    with Served("--data", tmp_path / "data", env=env) as server:
        assert url_of(server).startswith("http://[::1]:")
        assert total(server, "neardict_build_info") == 1
