"""The traps of near caches that have a side of their own on an event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

import neardict.aio
from coherence.checker import BOUND_SECONDS
from coherence.proxy import Proxy
from coherence.running import Server
from coherence.traps import DEADLINE_SECONDS, DOMAIN, Witness
from kinds import write_config
from shown import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from neardict.aio import CachedDict, Store
    from neardict.v1 import storage_pb2 as pb
    from redis_server import RedisServer

# The stream's connection is opened before that of the calls.
STREAM = 0


@pytest.fixture
def network(tmp_path: Path, redis: RedisServer) -> Iterator[Proxy]:
    """In front of a server."""
    with (
        Server(write_config(tmp_path, "memory", redis), tmp_path / "data", "none") as server,
        Proxy(server.address) as proxy,
    ):
        yield proxy


@pytest.fixture
async def store(network: Proxy) -> AsyncIterator[Store]:
    """The client under test, behind the network."""
    async with neardict.aio.connect(network.address, timeout=2) as connected:
        yield connected


@pytest.fixture
async def other(network: Proxy) -> AsyncIterator[Store]:
    """Another client, whose network is good."""
    async with neardict.aio.connect(network.upstream) as connected:
        yield connected


@pytest.fixture
async def near(store: Store, other: Store) -> CachedDict:
    """A mirror that is fresh and holds an entry."""
    await other.set_value(DOMAIN, "k", "old")
    mirror = await store.dict(DOMAIN)
    await eventually(lambda: mirror.fresh)
    assert held(mirror) == {"k": "old"}
    return mirror


async def eventually(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        await asyncio.sleep(0.005)


def held(cache: CachedDict) -> dict[str, Any]:
    """Returns what a hit would be served from."""
    return shown(cache)


def hold_back_first_reply(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Event, asyncio.Event]:
    """Returns what is set when the first look-up was answered, and what lets its reply go on."""
    replied, release = asyncio.Event(), asyncio.Event()
    look_up = store.lookup

    async def held_back(domain: str, key: str) -> pb.GetValueResponse:
        reply = await look_up(domain, key)
        if not replied.is_set():
            replied.set()
            await release.wait()
        return reply

    monkeypatch.setattr(store, "lookup", held_back)
    return replied, release


@pytest.mark.parametrize("deleting", [False, True])
async def test_a_reply_that_a_change_has_overtaken_does_not_fill_the_cache(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch, *, deleting: bool
) -> None:
    await other.set_value(DOMAIN, "k", "old")
    cache = await store.dict(DOMAIN, load=False)
    await eventually(lambda: cache.fresh)
    witness = Witness(store)
    replied, release = hold_back_first_reply(store, monkeypatch)
    reading = asyncio.create_task(cache.fetch("k", None))
    await replied.wait()
    if deleting:
        await other.delete_key(DOMAIN, "k")
    else:
        await other.set_value(DOMAIN, "k", "new")
    await eventually(lambda: witness.keys == ["k"])
    release.set()
    await reading
    assert await cache.fetch("k", None) == (None if deleting else "new")
    assert held(cache) == ({} if deleting else {"k": "new"})


async def test_without_a_stream_a_look_up_does_not_answer_for_one_that_began_after_it(
    store: Store, other: Store, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await other.set_value(DOMAIN, "k", "old")
    cache = await store.dict(DOMAIN, load=False)
    await eventually(lambda: cache.fresh)
    network.silence(only=STREAM)
    await eventually(lambda: not cache.fresh)
    replied, release = hold_back_first_reply(store, monkeypatch)
    early = asyncio.create_task(cache.fetch("k"))
    await replied.wait()
    await other.set_value(DOMAIN, "k", "new")
    late = asyncio.create_task(cache.fetch("k"))
    # Until it waits for the early one, if it does.
    await asyncio.sleep(0)
    release.set()
    await early
    assert await late == "new"


async def test_a_stream_that_went_silent_is_noticed_within_the_bound_and_replaced(
    near: CachedDict, other: Store, network: Proxy
) -> None:
    network.silence(only=STREAM)
    await other.set_value(DOMAIN, "k", "new")
    await eventually(lambda: held(near) == {} or held(near) == {"k": "new"}, BOUND_SECONDS)
    await eventually(lambda: near.fresh and held(near) == {"k": "new"}, 5)


async def test_a_handler_that_throws_costs_the_stream_and_no_change(
    store: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Throwing(Witness):
        thrown = 0

        def apply(self, change: Any) -> None:
            if not self.thrown:
                self.thrown += 1
                raise RuntimeError("a mistake of ours")

    await other.set_value(DOMAIN, "k", "old")
    throwing = Throwing(store)  # told before the dict, which thus is not told
    mirror = await store.dict(DOMAIN)
    await eventually(lambda: mirror.fresh)
    with caplog.at_level(logging.ERROR, "neardict"):
        await other.set_value(DOMAIN, "k", "new")
        await eventually(lambda: throwing.thrown == 1 and held(mirror) == {"k": "new"} and mirror.fresh)
    assert "the stream begins again" in caplog.text


async def test_a_stream_that_ended_leaves_no_task_behind(
    near: CachedDict, store: Store, network: Proxy
) -> None:
    witness = Witness(store)
    before = len(asyncio.all_tasks())
    for number in range(1, 6):
        network.cut()
        await eventually(lambda: witness.stales == number)  # noqa: B023  # called at once
        await eventually(lambda: near.fresh)
    await eventually(lambda: len(asyncio.all_tasks()) <= before, 5)
