"""A Redis that is down, or does not answer, when clients subscribe: they are right as soon as it is back."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import neardict
from coherence.checker import BOUND_SECONDS
from coherence.traps import eventually
from neardict import aio
from neardict.errors import UnavailableError
from redis_server import RedisServer
from served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOMAIN = "far.domain"
NEAR_BY = "near by"

CONFIG = """
default = "disk"
[backends.disk]
implementation = "sqlite"
[backends.shared]
implementation = "redis"
settings.port = {port}
[[routes]]
domain = "far.*"
backend = "shared"
"""


@pytest.fixture
def engine() -> Iterator[RedisServer]:
    """Not running yet."""
    server = RedisServer(durable=True)
    yield server
    server.close()


@pytest.fixture
def server(engine: RedisServer, tmp_path: Path) -> Iterator[Served]:
    config = tmp_path / "neardict.toml"
    config.write_text(CONFIG.format(port=engine.port))
    with Served("--config", config, "--data", tmp_path / "data") as running:
        yield running


def test_a_redis_that_was_down_at_first_is_followed_once_it_is_up(
    engine: RedisServer, server: Served
) -> None:
    with neardict.connect(server.address) as store, neardict.connect(server.address) as other:
        cache = store.dict(DOMAIN, load=False)
        with pytest.raises(UnavailableError):
            cache["key"]
        assert not cache.fresh
        engine.start()
        other.set_value(DOMAIN, "key", 1)
        eventually(lambda: cache.fresh)
        assert cache["key"] == 1
        other.set_value(DOMAIN, "key", 2)
        eventually(lambda: dict.get(cache, "key") != 1)
        assert cache["key"] == 2


async def test_the_same_with_asyncio(engine: RedisServer, server: Served) -> None:
    async with aio.connect(server.address) as store:
        cache = await store.dict(DOMAIN, load=False)
        with pytest.raises(UnavailableError):
            await cache.fetch("key")
        engine.start()
        with neardict.connect(server.address) as other:
            other.set_value(DOMAIN, "key", 1)
        deadline = time.monotonic() + 4 * BOUND_SECONDS
        while not cache.fresh:
            assert time.monotonic() < deadline
            # Asks meanwhile, as a program would.
            assert await cache.fetch("key") == 1
        assert cache["key"] == 1


def test_what_is_held_is_back_without_a_reload_when_server_and_redis_are(
    engine: RedisServer, server: Served, tmp_path: Path
) -> None:
    engine.start()
    with neardict.connect(server.address) as store:
        mirror = store.dict(DOMAIN)
        mirror["key"] = {"hp": 5}
        eventually(lambda: mirror.fresh)
        held = mirror["key"]
        resets = mirror.stats.resets
        server.kill()
        engine.kill()
        again = Served(
            *("--config", tmp_path / "neardict.toml", "--data", tmp_path / "data"),
            *("--listen", server.address),
        )
        with again:
            # The domain on the disk shows that the stream is back, and what was rejected with it.
            eventually(lambda: store.dict(NEAR_BY).fresh)
            with pytest.raises(UnavailableError):
                mirror["key"]
            engine.start()
            eventually(lambda: mirror.fresh)
            assert dict.get(mirror, "key") is held
            assert mirror.stats.resets == resets


def test_a_redis_that_does_not_answer_holds_up_no_other_backend(engine: RedisServer, server: Served) -> None:
    engine.start()
    with (
        neardict.connect(server.address) as store,
        neardict.connect(server.address) as other,
        ThreadPoolExecutor(12) as threads,
    ):
        engine.pause()
        # More than begin at once, each of which takes as long as the server waits for Redis.
        begin = functools.partial(store.dict, load=False)
        beginning = [threads.submit(begin, f"{DOMAIN} {number}") for number in range(12)]
        near = store.dict(NEAR_BY)
        eventually(lambda: near.fresh)
        end = time.monotonic() + 1.5 * BOUND_SECONDS
        number = 0
        while time.monotonic() < end:
            number += 1
            other.set_value(NEAR_BY, "key", number)
            eventually(lambda: dict.get(near, "key") == number)  # noqa: B023  # called at once
            assert near.fresh
        far = [begun.result() for begun in beginning]
        assert not any(cache.fresh for cache in far)
        engine.resume()
        eventually(lambda: all(cache.fresh for cache in far), 30)
