"""What deploy/compose.yaml and the configuration beside it promise, without a container engine."""

from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from redis import Redis

from neardict.v1 import storage_pb2, storage_pb2_grpc
from neardict_server.config import load
from redis_server import RedisServer
from served import Served

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_with_its_data(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    volumes = dict(volume.split(":")[:2] for volume in service["volumes"])
    [volume] = [source for source, target in volumes.items() if target == "/data"]
    assert volume in COMPOSE["volumes"]


def test_only_the_service_itself_is_published_and_only_on_loopback() -> None:
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert published == {"neardict": ["127.0.0.1:50051:50051"], "redis": []}
    assert COMPOSE["networks"]["storage"]["internal"] is True
    assert SERVICES["redis"]["networks"] == ["storage"]
    assert "storage" in SERVICES["neardict"]["networks"]


def test_redis_writes_a_file_and_is_waited_for() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert "test" in SERVICES["redis"]["healthcheck"]
    assert SERVICES["neardict"]["depends_on"]["redis"]["condition"] == "service_healthy"


def test_the_service_has_time_to_drain_before_it_is_killed() -> None:
    config = load(DEPLOY / "neardict.toml")
    grace = SERVICES["neardict"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > config.shutdown_grace_seconds


def test_the_service_is_told_where_the_mounted_configuration_is() -> None:
    named = SERVICES["neardict"]["environment"]["NEARDICT_CONFIG"]
    assert f"./neardict.toml:{named}:ro" in SERVICES["neardict"]["volumes"]
    config = load(DEPLOY / "neardict.toml")
    assert config.backends["redis"].settings["host"] in SERVICES


def test_sessions_go_to_redis_and_the_rest_to_the_volume(tmp_path: Path) -> None:
    with RedisServer() as redis:
        # Only where Redis is differs from what compose.yaml runs.
        where = "NEARDICT_BACKENDS__REDIS__SETTINGS__"
        env = {f"{where}HOST": redis.host, f"{where}PORT": str(redis.port)}
        with Served("--config", DEPLOY / "neardict.toml", "--data", tmp_path, env=env) as server:
            with grpc.insecure_channel(server.address) as channel:
                stub = storage_pb2_grpc.StorageServiceStub(channel)
                for domain in ("session.web", "settings"):
                    value = storage_pb2.Value(json="1")
                    stub.SetValue(
                        storage_pb2.SetValueRequest(domain=domain, key="k", value=value), timeout=10
                    )
            assert server.stop() == 0
        with Redis(host=redis.host, port=redis.port) as client:
            names = b" ".join(client.keys("*"))
    assert b"session.web" in names
    assert b"settings" not in names
    assert any(path.stat().st_size > 0 for path in tmp_path.rglob("*.sqlite3"))
