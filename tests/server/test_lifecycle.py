"""A server starts, says what it serves, stops when it is told to, and is found again as it was."""

import signal
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from neardict.v1 import storage_pb2 as pb
from served import START_SECONDS, STOP_SECONDS, Served
from starting import start_and_fail
from wire import SERVICE, Refusal, ask

SERVING = health_pb2.HealthCheckResponse.SERVING


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def put(address: str, key: str = "key", text: str = "1") -> bytes | Refusal:
    with grpc.insecure_channel(address) as channel:
        request = pb.SetValueRequest(domain="d", key=key, value=pb.Value(json=text))
        return ask(channel, "SetValue", request)


def get(address: str, key: str = "key") -> pb.GetValueResponse:
    with grpc.insecure_channel(address) as channel:
        answer = ask(channel, "GetValue", pb.GetValueRequest(domain="d", key=key))
    assert isinstance(answer, bytes), answer
    return pb.GetValueResponse.FromString(answer)


def test_the_first_lines_tell_the_real_port_and_which_backend_serves_what(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(
        """
        default = "disk"
        [backends.disk]
        implementation = "sqlite"
        [backends.fast]
        implementation = "memory"
        [[routes]]
        domain = "session.*"
        backend = "fast"
        """
    )
    with Served("--config", config, "--data", tmp_path / "data") as server:
        assert isinstance(put(server.address), bytes)
        assert server.stop() == 0
    assert server.output.splitlines() == [
        f"listening on {server.address}",
        "  session.* -> fast (memory)",
        "  * -> disk (sqlite)",
        "draining",
    ]
    host, _, port = server.address.rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)


def test_a_given_port_is_the_one_that_is_served(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Served("--listen", address, "--data", tmp_path) as server:
        assert server.address == address
        assert isinstance(put(address), bytes)


def test_without_configuration_the_data_is_below_the_working_folder(tmp_path: Path) -> None:
    with Served(cwd=tmp_path) as server:
        assert isinstance(put(server.address), bytes)
    assert (tmp_path / "neardict-data" / "neardict.sqlite3").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_exit_code_0_and_the_data_is_there_after_a_restart(
    number: signal.Signals, tmp_path: Path
) -> None:
    with Served("--data", tmp_path) as server:
        assert isinstance(put(server.address, text='"before"'), bytes)
        assert server.stop(number) == 0
        server.start()
        assert get(server.address).entry.value.json == '"before"'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_more_signals_while_it_stops_change_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        server.process.send_signal(number)
        while True:
            try:
                code = server.process.wait(0.01)
                break
            except subprocess.TimeoutExpired:
                server.process.send_signal(number)
    assert code == 0
    assert "Traceback" not in server.output


def test_it_goes_on_when_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        assert isinstance(put(server.address), bytes)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 0


def test_it_serves_without_any_output_to_print_to(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    serve = [sys.executable, "-m", "neardict_server", "--listen", address, "--data", str(tmp_path)]
    process = subprocess.Popen(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *serve])
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        assert isinstance(put(address), bytes)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_a_second_server_on_the_same_data_says_who_has_it(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        said = start_and_fail("--data", tmp_path)
        assert f"{tmp_path} is in use by another neardict server (process {server.process.pid})" in said
        # And has done the first no harm.
        assert isinstance(put(server.address), bytes)


def test_a_second_server_on_the_same_port_says_so(tmp_path: Path) -> None:
    with Served("--data", tmp_path / "first") as server:
        said = start_and_fail("--data", tmp_path / "second", "--listen", server.address)
        assert f"cannot listen on {server.address}: the port is taken by another program" in said
        for _ in range(10):
            # Every connection still reaches the first.
            assert isinstance(put(server.address), bytes)


def test_two_backends_of_one_server_cannot_share_a_file(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(
        """
        default = "a"
        [backends.a]
        implementation = "sqlite"
        [backends.b]
        implementation = "sqlite"
        """
    )
    said = start_and_fail("--config", config, "--data", tmp_path / "data")
    assert f"backends.b: {tmp_path / 'data'} is in use by another backend of this server" in said


def test_what_a_killed_server_leaves_behind_stops_nobody(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        put(server.address, text='"kept"')
        server.kill()
        assert (tmp_path / "neardict.sqlite3.lock").exists()
        server.start()
        assert get(server.address).entry.value.json == '"kept"'
        assert server.stop() == 0


def test_it_tells_its_version_limits_backends_and_routes(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(
        """
        default = "disk"
        limits = { max_value_bytes = 1000, max_json_depth = 9 }
        backends = { disk = { implementation = "sqlite" }, files = { implementation = "json" } }
        routes = [{ domain = "a.*", backend = "files" }, { domain = "b", backend = "disk" }]
        """
    )
    with (
        Served("--config", config, "--data", tmp_path / "data") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        answer = ask(channel, "GetServerInfo", pb.GetServerInfoRequest())
    assert isinstance(answer, bytes)
    info = pb.GetServerInfoResponse.FromString(answer)
    assert info.version == metadata.version("neardict")
    limits = info.limits
    assert (limits.max_domain_bytes, limits.max_key_bytes) == (255, 1024)
    assert (limits.max_value_bytes, limits.max_json_depth) == (1000, 9)
    assert limits.request_id_window.ToSeconds() == 60
    told = {
        backend.name: (
            backend.implementation,
            {pb.Capability.Name(c).removeprefix("CAPABILITY_") for c in backend.capabilities},
        )
        for backend in info.backends
    }
    assert told == {
        "disk": ("sqlite", {"DURABLE", "TTL", "DURABLE_REQUEST_ID", "LEASES", "WATCH"}),
        "files": ("json", {"DURABLE", "WATCH"}),
    }
    routes = [(route.domain, route.backend) for route in info.routes]
    assert routes == [("a.*", "files"), ("b", "disk"), ("*", "disk")]


def test_it_starts_with_the_largest_limits(tmp_path: Path) -> None:
    largest = {
        "NEARDICT_LIMITS__MAX_VALUE_BYTES": str(256 * 1024 * 1024),
        "NEARDICT_LIMITS__MAX_MESSAGE_VALUE_BYTES": str(64 * 1024 * 1024),
        "NEARDICT_LIMITS__MAX_JSON_DEPTH": "500",
    }
    with Served("--data", tmp_path, env=largest) as server:
        assert isinstance(put(server.address, text="[" * 500 + "]" * 500), bytes)
        assert isinstance(put(server.address, text='"' + "x" * 20_000_000 + '"'), bytes)


def test_health_tells_that_it_serves(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="another"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services_and_the_contract(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        listed, contract = stub.ServerReflectionInfo(iter(requests))
        assert {service.name for service in listed.list_services_response.service} == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert pb.DESCRIPTOR.serialized_pb in contract.file_descriptor_response.file_descriptor_proto
