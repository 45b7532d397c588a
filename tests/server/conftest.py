"""A server of each kind of backend, shared by the tests that leave it as they found it."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kinds import TYPES, write_config
from neardict.v1 import storage_pb2 as pb
from places import Place, outside, put
from redis_server import RedisServer
from served import Served


@pytest.fixture(
    scope="session",
    params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"place-{kind}")) for kind in TYPES],
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Iterator[Place]:
    around = tmp_path_factory.mktemp("around")
    config = write_config(around, request.param, redis)
    (around / "working-folder").mkdir()
    (around / "neighbour.json").write_text('"not yours"')
    arguments = ("--config", config, "--data", around / "data")
    with (
        Served(*arguments, cwd=around / "working-folder") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Place(request.param, channel, around)


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    before = outside(served.around)
    yield served
    health: Any = health_pb2_grpc.HealthStub(served.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    put(served, "the next one", pb.Value(json="1"))
    assert outside(served.around) == before
