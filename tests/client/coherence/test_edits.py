"""Processes that edit one value lose none of each other's changes, whatever keeps it."""

from collections.abc import Iterator

import pytest

import neardict
from kinds import write_routes
from redis_server import RedisServer
from served import Served

from .increments import run

BACKENDS = ["memory", "sqlite", "json", "redis"]


@pytest.fixture(scope="module")
def every_backend(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("edits")
    with Served("--config", write_routes(folder, BACKENDS, redis), "--data", folder) as served:
        yield served


@pytest.mark.parametrize("backend", BACKENDS)
def test_increments_of_several_processes_add_up(every_backend: Served, domain: str, backend: str) -> None:
    # The long form, 8 processes with 1,000 increments each: python tests/client/coherence/increments.py
    # TARGET DOMAIN 8 1000, against a running service.
    name = f"{backend}.{domain}"
    run(every_backend.address, name, processes=4, times=100)
    with neardict.connect(every_backend.address) as store:
        assert store.get_value(name, "n") == 400
