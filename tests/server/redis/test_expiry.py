"""Entries that expire: absent at once, and freed in time."""

import random
from typing import Any

import pytest

from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.redis.scripts import MARGIN_MILLISECONDS
from neardict_server.errors import (
    ConditionFailedError,
)
from redis_backend import DOMAIN, PLACE, listed, until, value_of


async def test_writes_remove_what_has_expired(backend: RedisBackend, admin: Any) -> None:
    for number in range(100):
        await backend.set_value(DOMAIN, f"brief {number}", "1", ttl=1)
    for number in range(5):
        await backend.set_value(DOMAIN, f"kept {number}", "1")
    kept = [f"kept {number}".encode() for number in range(5)]
    assert sorted(await admin.hkeys(PLACE)) == kept
    assert await admin.zrange(f"{PLACE}:keys", 0, -1) == kept
    assert not await admin.exists(f"{PLACE}:expiries")


async def test_a_domain_that_only_expires_leaves_nothing_behind(backend: RedisBackend, admin: Any) -> None:
    for number in range(10):
        await backend.set_value(DOMAIN, str(number), "1", ttl=50_000)
    margin = MARGIN_MILLISECONDS + 50
    for name in await admin.keys("*"):
        assert margin - 10_000 < await admin.pttl(name) <= margin
    assert len(await admin.keys("*")) == 5


async def test_entries_that_stay_survive_the_end_of_others(backend: RedisBackend, admin: Any) -> None:
    generator = random.Random(4)
    for number in range(500):
        # So brief that expiry falls into the next script, or into this one.
        await backend.set_value(DOMAIN, f"brief {number % 3}", "1", ttl=generator.randrange(1, 1500))
        if number % 5 == 0:
            await backend.set_value(DOMAIN, "stays", str(number))
        elif number % 5 == 3:
            assert await value_of(backend, DOMAIN, "stays") == str(number - 3)
            await backend.delete_key(DOMAIN, "stays")
    await backend.set_value(DOMAIN, "stays", "1")

    async def only_what_stays() -> bool:
        await backend.set_value(DOMAIN, "stays", "1")
        return bool(await admin.hkeys(PLACE) == [b"stays"])

    await until(only_what_stays)
    assert await admin.zrange(f"{PLACE}:keys", 0, -1) == [b"stays"]
    assert not await admin.exists(f"{PLACE}:expiries")
    assert await admin.ttl(PLACE) == -1


async def test_a_domain_outlives_its_last_entry_by_a_margin(backend: RedisBackend, admin: Any) -> None:
    # Without it the end of the domain could fall into a script that still writes to it, and part its names.
    for operation in (
        backend.set_value(DOMAIN, "brief", "1", ttl=1),
        backend.delete_key(DOMAIN, "brief"),
        backend.set_value(DOMAIN, "brief", "1", ttl=1),
    ):
        await operation
        for name in await admin.keys(f"{PLACE}*"):
            assert await admin.pttl(name) > 500 or name == f"{PLACE}:revision".encode()


async def test_an_entry_that_stays_keeps_its_domain(backend: RedisBackend, admin: Any) -> None:
    for setting, deleting in (("before", "brief"), ("after", "other")):
        await backend.set_value(DOMAIN, setting, "1")
        await backend.set_value(DOMAIN, "brief", "1", ttl=10**9)
        await backend.set_value(DOMAIN, "other", "1", ttl=10**9)
        await backend.delete_key(DOMAIN, deleting)
        assert [await admin.ttl(name) for name in await names_but_the_log(admin)] == [-1] * 4
    await backend.delete_key(DOMAIN, "before")
    await backend.delete_key(DOMAIN, "after")
    # Now all that is left expires.
    assert await admin.ttl(PLACE) > 0
    await backend.set_value(DOMAIN, "brief", "2")
    assert [await admin.ttl(name) for name in await names_but_the_log(admin)] == [-1] * 3


async def names_but_the_log(admin: Any) -> list[bytes]:
    return [name for name in await admin.keys("*") if name != f"{PLACE}:changes".encode()]


async def test_a_new_expiry_replaces_the_old_one(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "key", "1", ttl=10**9)
    longer = await backend.set_value(DOMAIN, "key", "2", ttl=10**10)
    assert await admin.zrange(f"{PLACE}:expiries", 0, -1, withscores=True) == [(b"key", longer.expires)]
    assert (await backend.set_value(DOMAIN, "key", "3")).expires is None
    assert not await admin.exists(f"{PLACE}:expiries")
    await backend.set_value(DOMAIN, "key", "4", ttl=10**9)
    await backend.delete_key(DOMAIN, "key")
    assert await names_but_the_log(admin) == [f"{PLACE}:revision".encode()]


async def test_reads_do_not_wait_for_a_sweep(backend: RedisBackend, admin: Any) -> None:
    # Expired long ago, by its own text and by the index, and still there.
    await backend.set_value(DOMAIN, "key", "1", ttl=10**9)
    await backend.set_value(DOMAIN, "stays", "1")
    await admin.hset(PLACE, "key", "5 1 json 1")
    await admin.zadd(f"{PLACE}:expiries", {"key": 1})
    assert (await backend.get_value(DOMAIN, "key")).entry is None
    assert await listed(backend, DOMAIN) == ["stays"]
    pages = [page async for page in backend.all_keys(DOMAIN, entries=True)]
    assert [entry.key for page in pages for entry in page.entries] == ["stays"]
    with pytest.raises(ConditionFailedError):
        await backend.set_value(DOMAIN, "key", "2", condition=5)
    assert await admin.hexists(PLACE, "key")
    assert not (await backend.delete_key(DOMAIN, "key")).existed
