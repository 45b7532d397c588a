"""Several workers on one port: they start as one server, are kept alive, and end as one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis as redis_py
from grpc_health.v1 import health_pb2, health_pb2_grpc

import neardict
from coherence.traps import eventually
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.config import Config
from neardict_server.workers.orders import Order
from redis_server import RedisServer, free_port
from served import Served
from starting import start_and_fail
from wire import Refusal, ask
from worker_processes import (
    DEADLINE_SECONDS,
    channel_of_each,
    until_gone,
    until_there_are,
    workers_of,
    write_shared,
)

Health = health_pb2.HealthCheckResponse


@pytest.fixture
def config(tmp_path: Path, redis: RedisServer) -> Path:
    return write_shared(tmp_path, redis)


@pytest.fixture
def server(config: Path) -> Iterator[Served]:
    # The grace is not to be over before a busy machine has read what it is for.
    with Served(
        "--config", config, "--workers", "3", env={"NEARDICT_SHUTDOWN_GRACE_SECONDS": "60"}
    ) as server:
        yield server


def until_logged(server: Served, text: str) -> None:
    """Reads what the server says until the text is there."""
    assert server.process.stdout is not None
    deadline = time.monotonic() + DEADLINE_SECONDS
    while text not in server.output:
        assert time.monotonic() < deadline, server.output
        server.output += os.read(server.process.stdout.fileno(), 65536).decode()


def test_it_says_once_what_a_single_server_says_and_its_log_names_the_workers(server: Served) -> None:
    workers = workers_of(server)
    assert len(workers) == 3
    assert server.stop() == 0
    lines = server.output.splitlines()
    logged = [line for line in lines if line.startswith("20")]
    said = [line for line in lines if line not in logged]
    assert said == [f"listening on {server.address}", "  * -> shared (redis)", "draining"]
    assert int(server.address.removeprefix("127.0.0.1:")) > 0
    for number, pid in enumerate(workers, 1):
        assert any(f"worker {number} (process " in line for line in logged)
        assert any(f"(process {pid}) serves" in line for line in logged)


def test_the_lines_of_a_workers_own_log_say_which_it_is(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        Served("--config", write_shared(tmp_path, redis), "--workers", "2") as server,
    ):
        redis.kill()
        with channel_of_each(server) as channels:
            for channel in channels.values():
                assert isinstance(ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k")), Refusal)
        assert server.stop() == 0
    for number in (1, 2):
        assert f"WARNING worker {number} neardict_server.backends.redis" in server.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them(number: signal.Signals, server: Served) -> None:
    workers = workers_of(server)
    assert server.stop(number) == 0
    until_gone(workers)
    assert "Traceback" not in server.output


def test_ctrl_c_on_a_terminal_which_signals_the_whole_group_ends_all_without_noise(config: Path) -> None:
    with Served("--config", config, "--workers", "3", under=["setsid"]) as server:
        workers = workers_of(server)
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(DEADLINE_SECONDS) == 0
        until_gone(workers)
    assert "Traceback" not in server.output
    assert "ended" not in server.output


def test_the_environment_may_say_how_many(config: Path) -> None:
    with Served("--config", config, env={"NEARDICT_WORKERS": "2"}) as server:
        assert len(workers_of(server)) == 2


def test_the_supervisor_never_loads_grpc(server: Served) -> None:
    def loads_grpc(pid: int) -> bool:
        return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()

    assert not loads_grpc(server.process.pid)
    assert all(map(loads_grpc, workers_of(server)))


def test_backends_that_cannot_be_shared_are_named_and_nothing_is_opened(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(
        """
        default = "disk"
        backends.disk.implementation = "sqlite"
        backends.shared.implementation = "redis"
        backends.off.implementation = "null"
        """
    )
    said = start_and_fail("--config", config, "--data", tmp_path / "data", "--workers", "2")
    assert said.splitlines() == [
        "Error: workers: must be 1, since several processes cannot share these:",
        "  backends.disk: sqlite lacks CAPABILITY_SHARED",
        "  backends.off: null lacks CAPABILITY_SHARED",
    ]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_workers_serve_is_taken(workers: str, server: Served, config: Path) -> None:
    said = start_and_fail("--config", config, "--listen", server.address, "--workers", workers)
    assert f"cannot listen on {server.address}: the port is taken by another program" in said
    assert len(workers_of(server)) == 3


def test_a_port_that_a_single_server_has_is_taken(tmp_path: Path, config: Path) -> None:
    with Served("--data", tmp_path / "data") as single:
        said = start_and_fail("--config", config, "--listen", single.address, "--workers", "2")
        assert f"cannot listen on {single.address}: the port is taken by another program" in said


def test_what_keeps_a_worker_from_starting_is_said_as_a_single_server_says_it(tmp_path: Path) -> None:
    with RedisServer("--requirepass", "the-right-one") as redis:
        config = write_shared(tmp_path, redis, ', password = "planted-and-wrong"')
        single, several = (start_and_fail("--config", config, "--workers", number) for number in ("1", "3"))
    assert errors_in(several) == errors_in(single)
    assert len(errors_in(single)) == 1
    assert "planted" not in several


def errors_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("Error: ")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_and_the_others_go_on(number: signal.Signals, server: Served) -> None:
    before = workers_of(server)
    with channel_of_each(server) as channels:
        [victim, *others] = channels
        os.kill(victim, number)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(now := workers_of(server) - {victim}) < 3:
            assert time.monotonic() < deadline
            for other in others:
                answer = ask(channels[other], "GetValue", pb.GetValueRequest(domain="d", key="k"))
                assert isinstance(answer, bytes), answer
    assert now - before
    assert now >= before - {victim}
    how = "by signal 9 (Killed)" if number == signal.SIGKILL else "with exit code 0"
    until_logged(server, f"(process {victim}) ended {how}: starting it again in 0 seconds")
    with channel_of_each(server) as channels:
        assert channels.keys() == now
    assert server.stop() == 0
    until_gone(now)


def test_a_worker_that_cannot_start_again_is_tried_until_it_can(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        Served("--config", write_shared(tmp_path, redis), "--workers", "2") as server,
        redis_py.Redis(port=redis.port) as admin,
    ):
        [victim, other] = workers_of(server)
        admin.config_set("requirepass", "a secret")
        os.kill(victim, signal.SIGKILL)
        until_logged(server, "cannot start: backends.shared: redis at localhost")
        assert workers_of(server) == {other}
        admin.config_set("requirepass", "")
        assert other in until_there_are(2, server)
        assert server.stop() == 0
    assert "a secret" not in server.output


@pytest.mark.parametrize("length", [0, 100])
def test_a_worker_whose_supervisor_is_gone_before_it_began_ends_without_noise(length: int) -> None:
    order = Order(1, Config(), "INFO", 0.0).to_bytes()[:length]
    command = [sys.executable, "-m", "neardict_server.workers.worker"]
    done = subprocess.run(command, input=order, capture_output=True, timeout=DEADLINE_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_workers_whose_supervisor_was_killed_drain_and_end(server: Served, config: Path) -> None:
    workers = workers_of(server)
    server.process.kill()
    until_gone(workers)
    with Served("--config", config, "--workers", "2", "--listen", server.address) as again:
        assert again.address == server.address


def test_a_worker_that_hangs_does_not_keep_the_server_from_ending(config: Path) -> None:
    with Served("--config", config, "--workers", "2", env={"NEARDICT_SHUTDOWN_GRACE_SECONDS": "0"}) as server:
        workers = workers_of(server)
        victim = min(workers)
        os.kill(victim, signal.SIGSTOP)
        assert server.stop() == 0
        until_gone(workers)
    assert f"(process {victim}) does not end, and is killed" in server.output


def test_every_worker_drains_and_says_so_and_finishes_what_has_begun(server: Served) -> None:
    with channel_of_each(server) as channels:
        listings, watching = [], []
        for channel in channels.values():
            health: Any = health_pb2_grpc.HealthStub(channel)
            watching.append(health.Watch(health_pb2.HealthCheckRequest()))
            assert next(watching[-1]).status == Health.SERVING
            listings.append(begin_listing(channel))
        server.process.send_signal(signal.SIGTERM)
        for watch in watching:
            assert next(watch).status == Health.NOT_SERVING
        for channel in channels.values():
            stub: Any = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest()).status == Health.NOT_SERVING
        for listing in listings:
            assert sum(len(page.entries) for page in listing) == LARGE_ENTRIES - 1
        assert server.process.wait(DEADLINE_SECONDS) == 0


# Larger together than what fits on the way to a client that reads nothing.
LARGE_ENTRIES = 40


def begin_listing(channel: grpc.Channel) -> Any:
    """Returns a listing whose first page has been read, and the rest of which waits for its reader."""
    stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
    for number in range(LARGE_ENTRIES):
        value = pb.Value(raw=bytes([number]) * 500_000)
        stub.SetValue(pb.SetValueRequest(domain="read while draining", key=f"k{number}", value=value))
    listing = stub.AllKeys(pb.AllKeysRequest(domain="read while draining", include_entries=True))
    next(listing)
    return listing


def test_every_worker_tells_the_same_of_the_server(server: Served) -> None:
    with channel_of_each(server) as channels:
        told = {ask(channel, "GetServerInfo", pb.GetServerInfoRequest()) for channel in channels.values()}
    [info] = told
    assert isinstance(info, bytes)
    assert [route.backend for route in pb.GetServerInfoResponse.FromString(info).routes] == ["shared"]


def test_workers_keep_no_files(tmp_path: Path, config: Path) -> None:
    data = tmp_path / "data"
    with Served("--config", config, "--data", data, "--workers", "2") as server:
        with channel_of_each(server) as channels, neardict.connect(server.address) as store:
            mirror = store.dict("unkept")
            for number, channel in enumerate(channels.values()):
                write = pb.SetValueRequest(domain="unkept", key="k", value=pb.Value(json=str(number)))
                assert isinstance(ask(channel, "SetValue", write), bytes)
                eventually(lambda number=number: mirror.get("k") == number)  # type: ignore[misc]  # mypy#15459
        assert server.stop() == 0
    assert not data.exists()


def test_workers_serve_without_any_output_to_print_to(config: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    serve = [sys.executable, "-m", "neardict_server", "--listen", address, "--config", str(config)]
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *serve, "--workers", "2"])
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
            assert isinstance(ask(channel, "GetValue", pb.GetValueRequest(domain="d", key="k")), bytes)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
