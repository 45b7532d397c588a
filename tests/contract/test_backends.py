"""The contract suite on each backend, at each distance from it."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from kinds import write_routes
from neardict_server.app import serving
from neardict_server.backends import base
from neardict_server.backends.json import JsonBackend
from neardict_server.backends.memory import MemoryBackend
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.request_ids import RequestIds
from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.config import BackendConfig, Config, RouteConfig
from neardict_server.testing import BackendContract, RemoteBackend
from redis_backend import PATIENT
from redis_server import RedisServer
from served import Served

KINDS: dict[str, Any] = {
    "json": JsonBackend,
    "memory": MemoryBackend,
    "redis": RedisBackend,
    "sqlite": SqliteBackend,
}


def config(data: Path, redis: RedisServer) -> Config:
    return Config(
        listen="127.0.0.1:0",
        # What is counted changes nothing.
        metrics_listen="127.0.0.1:0",
        data_dir=data,
        backends={
            name: BackendConfig(
                implementation=name,
                settings={"port": redis.port, **PATIENT} if name == "redis" else {},
            )
            for name in KINDS
        },
        routes=tuple(RouteConfig(domain=f"{name}.*", backend=name) for name in KINDS),
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    config = write_routes(folder, KINDS, redis)
    with Served("--config", config, "--data", folder / "data") as server:
        yield server


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class _AtOneDistance(BackendContract):
    @pytest.fixture
    def domain(self, kind: str) -> str:
        return f"{kind}.{uuid.uuid4().hex}"


class TestTheObject(_AtOneDistance):
    @pytest.fixture
    async def backend(self, kind: str, tmp_path: Path, redis: RedisServer) -> AsyncIterator[base.Backend]:
        settings = config(tmp_path, redis).backends[kind].settings
        backend: base.Backend = await KINDS[kind].open(
            KINDS[kind].Settings.model_validate(settings), base.Surroundings(tmp_path)
        )
        if base.Capability.DURABLE_REQUEST_ID not in backend.capabilities:
            backend = RequestIds(backend)
        yield backend
        await backend.close()


class TestAServerInTheProcess(_AtOneDistance):
    @pytest.fixture
    async def backend(self, kind: str, tmp_path: Path, redis: RedisServer) -> AsyncIterator[base.Backend]:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(config(tmp_path, redis)))
            backend = RemoteBackend(server.address, KINDS[kind].capabilities)
            stack.push_async_callback(backend.close)
            yield backend


class TestTheServedBinary(_AtOneDistance):
    @pytest.fixture
    async def backend(self, kind: str, served: Served) -> AsyncIterator[base.Backend]:
        backend = RemoteBackend(served.address, KINDS[kind].capabilities)
        yield backend
        await backend.close()
