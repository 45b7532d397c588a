"""Redis behind Sentinels: after a failover all goes on, and what it lost is not kept from anybody."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from redis_backend import DOMAIN, until_usable, value_of
from redis_ear import hearing
from redis_sentinel import SentinelGroup

IMPATIENT = {"connect_timeout_seconds": 0.4, "command_timeout_seconds": 0.4}


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with SentinelGroup() as running:
        yield running


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_failover_is_continued(group: SentinelGroup, frozen: bool) -> None:
    settings = group.settings | IMPATIENT
    async with hearing(settings) as one, hearing(settings) as two:
        for ear in (one, two):
            await ear.watch(DOMAIN)
        first = await one.backend.set_value(DOMAIN, "key", "1")
        for ear in (one, two):
            await ear.until_heard(DOMAIN, first.revision)
        await asyncio.to_thread(group.until, group.replicates)
        if frozen:
            group.primary.pause()
        else:
            group.primary.kill()
        for ear in (one, two):
            await ear.until_certain(DOMAIN, certain=False)
        await asyncio.to_thread(group.until_promoted)
        # A former primary that wakes up is not asked again.
        if frozen:
            group.primary.resume()
        for ear in (one, two):
            await ear.until_certain(DOMAIN)
        assert await value_of(one.backend, DOMAIN, "key") == "1"
        second = await write(one.backend, "2")
        assert second.revision > first.revision
        for ear in (one, two):
            await ear.until_heard(DOMAIN, second.revision)
            assert [change.value for change in ear.heard[DOMAIN]] == ["1", "2"]
            assert ear.lost == []


async def test_a_write_that_a_failover_lost_is_lost_for_all_and_its_revision_is_not_used_again(
    group: SentinelGroup,
) -> None:
    settings = group.settings | IMPATIENT
    async with hearing(settings) as one, hearing(settings) as two:
        for ear in (one, two):
            await ear.watch(DOMAIN)
        kept = await one.backend.set_value(DOMAIN, "key", '"kept"')
        await asyncio.to_thread(group.until, group.replicates)
        await asyncio.to_thread(group.cut_replication)
        lost = await one.backend.set_value(DOMAIN, "key", '"lost"')
        for ear in (one, two):
            await ear.until_heard(DOMAIN, lost.revision)
        group.primary.kill()
        await asyncio.to_thread(group.until_promoted)
        for ear in (one, two):
            await ear.until(lambda ear=ear: ear.lost == [DOMAIN])  # type: ignore[misc]  # mypy#15459
            assert (await ear.watch(DOMAIN, lost.revision)).missed is None
            await ear.until_certain(DOMAIN)
        entry = (await two.backend.get_value(DOMAIN, "key")).entry
        assert entry == base.Entry("key", '"kept"', kept.revision)
        again = await write(two.backend, '"again"')
        assert again.revision > lost.revision
        for ear in (one, two):
            await ear.until_heard(DOMAIN, again.revision)


async def test_sentinels_that_are_down_do_not_keep_the_server_from_starting() -> None:
    settings: dict[str, Any] = {"sentinels": ["127.0.0.1:1", "127.0.0.1:2"]}
    model = RedisBackend.Settings.model_validate(settings)
    backend = await RedisBackend.open(model, base.Surroundings(Path()))
    await backend.close()


async def write(backend: RedisBackend, value: str) -> base.Written:
    await until_usable(lambda: backend.get_value(DOMAIN, "key"))
    return await backend.set_value(DOMAIN, "key", value)
