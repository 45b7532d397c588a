"""Revisions and request ids: what several services on one Redis rely on."""

import asyncio
from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.request_ids import WINDOW
from neardict_server.errors import (
    ConditionFailedError,
    CorruptEntryError,
    InvalidRequestError,
)
from redis_backend import DOMAIN, PLACE, opened, value_of
from redis_server import RedisServer


async def test_they_increase_although_redis_lost_everything(backend: RedisBackend, admin: Any) -> None:
    before = (await backend.set_value(DOMAIN, "key", "1")).revision
    await admin.flushall()
    assert await backend.get_value(DOMAIN, "key") == base.Lookup(None, 0)
    assert (await backend.set_value(DOMAIN, "key", "1", condition=base.ABSENT)).revision > before


async def test_they_increase_although_the_clock_went_back(backend: RedisBackend, admin: Any) -> None:
    future = 2_000_000_000_000_000
    await admin.set(f"{PLACE}:revision", future)
    assert (await backend.set_value(DOMAIN, "key", "1")).revision == future + 1
    assert (await backend.delete_key(DOMAIN, "key")).revision == future + 2
    assert (await backend.delete_key(DOMAIN, "key")).revision == future + 2
    assert (await backend.get_value(DOMAIN, "key")).domain_revision == future + 2


async def test_services_that_share_a_redis_share_the_order(server: RedisServer) -> None:
    async with opened(server) as one, opened(server) as two:
        written = await asyncio.gather(
            *(b.set_value(DOMAIN, f"k{n % 5}", str(n)) for n in range(100) for b in (one, two))
        )
        assert len({w.revision for w in written}) == 200
        await one.set_value(DOMAIN, "counter", "0")

        async def increment(backend: RedisBackend) -> None:
            while True:
                entry = (await backend.get_value(DOMAIN, "counter")).entry
                assert entry is not None
                try:
                    await backend.set_value(
                        DOMAIN, "counter", str(int(entry.value) + 1), condition=entry.revision
                    )
                except ConditionFailedError:
                    continue
                return

        await asyncio.gather(*(increment(b) for _ in range(5) for b in (one, two)))
        assert await value_of(two, DOMAIN, "counter") == "10"


@pytest.mark.parametrize("damaged", [b"x", b"1e3", b"-1", b"9007199254740992", b"99999999999999999999"])
async def test_a_damaged_one_is_reported_and_not_guessed(
    backend: RedisBackend, admin: Any, damaged: bytes
) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.set(f"{PLACE}:revision", damaged)
    for operation in (backend.set_value(DOMAIN, "key", "2"), backend.delete_key(DOMAIN, "key")):
        with pytest.raises(CorruptEntryError, match="revision"):
            await operation
    await admin.delete(f"{PLACE}:revision")
    assert await value_of(backend, DOMAIN, "key") == "1"
    await backend.set_value(DOMAIN, "key", "2")


async def test_they_are_remembered_across_a_restart_of_ours(server: RedisServer) -> None:
    async with opened(server) as backend:
        written = await backend.set_value(DOMAIN, "key", "1", ttl=10**9, request_id="r1")
        await backend.set_value(DOMAIN, "gone", "1")
        deleted = await backend.delete_key(DOMAIN, "gone", request_id="r2")
        absent = await backend.delete_key(DOMAIN, "gone", request_id="r3")
    async with opened(server) as backend:
        await backend.set_value(DOMAIN, "gone", "2")
        assert await backend.set_value(DOMAIN, "key", "1", ttl=10**9, request_id="r1") == written
        assert await backend.delete_key(DOMAIN, "gone", request_id="r2") == deleted
        assert await backend.delete_key(DOMAIN, "gone", request_id="r3") == absent
        assert (deleted.existed, absent.existed) == (True, False)
        assert await value_of(backend, DOMAIN, "gone") == "2"
        with pytest.raises(InvalidRequestError):
            await backend.delete_key(DOMAIN, "key", request_id="r1")


async def test_one_of_two_services_writes(server: RedisServer) -> None:
    async with opened(server) as one, opened(server) as two:
        results = await asyncio.gather(
            *(b.set_value(DOMAIN, "key", "1", request_id="same") for _ in range(5) for b in (one, two))
        )
        assert len(set(results)) == 1


async def test_they_are_forgotten_after_the_window(backend: RedisBackend, admin: Any) -> None:
    name = f"{PLACE}:requests:run-000"
    await backend.set_value(DOMAIN, "key", "1", request_id="run-0001")
    await admin.pexpire(name, 1000)
    await backend.execute(DOMAIN, [base.Set("key", "2", request_id=f"run-000{at:x}") for at in range(16)])
    # One name for all that begin alike, for as long as the last of them.
    assert await admin.hlen(name) == 16
    assert WINDOW // 1000 - 10_000 < await admin.pttl(name) <= WINDOW // 1000
    assert await value_of(backend, DOMAIN, "key") == "2"


@pytest.mark.parametrize("request_id", ["r", "é", "\U0001f600\U0001f600", "a b\n", "x" * 64])
async def test_ids_of_any_characters_and_lengths_are_told_apart(
    backend: RedisBackend, request_id: str
) -> None:
    first = await backend.set_value(DOMAIN, "key", "1", request_id=request_id)
    for other in (request_id + "1", "1" + request_id[:-1] if len(request_id) > 1 else "2"):
        assert await backend.set_value(DOMAIN, "key", "2", request_id=other) != first
    assert await backend.set_value(DOMAIN, "key", "1", request_id=request_id) == first
