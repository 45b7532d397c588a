"""A Redis of its own for each test, a backend on it, and a client to look inside."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio

from neardict_server.backends.redis import RedisBackend
from redis_backend import opened
from redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
async def backend(server: RedisServer) -> AsyncIterator[RedisBackend]:
    async with opened(server) as backend:
        yield backend


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis(port=server.port) as client:
        yield client
