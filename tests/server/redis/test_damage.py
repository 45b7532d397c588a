"""What others break in Redis is reported, and hurts nothing else."""

from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.errors import (
    CorruptEntryError,
)
from redis_backend import DOMAIN, PLACE, listed, value_of


@pytest.mark.parametrize(
    "damaged",
    [b"", b"garbage", b"1 0 json", b"1 0 text 1", b"1 0 json {", b"1 0 json \xff", b"-1 0 raw x"],
)
async def test_a_corrupt_entry_hurts_itself_alone(backend: RedisBackend, admin: Any, damaged: bytes) -> None:
    await backend.set_value(DOMAIN, "good", "1")
    await backend.set_value(DOMAIN, "bad", "1")
    await admin.hset(PLACE, "bad", damaged)
    with pytest.raises(CorruptEntryError, match="bad"):
        await backend.get_value(DOMAIN, "bad")
    assert await value_of(backend, DOMAIN, "good") == "1"
    assert await listed(backend, DOMAIN) == ["bad", "good"]
    with pytest.raises(CorruptEntryError):
        _ = [page async for page in backend.all_keys(DOMAIN, entries=True)]
    # Whoever writes or deletes it needs not know what it was.
    await backend.set_value(DOMAIN, "bad", "2")
    assert await value_of(backend, DOMAIN, "bad") == "2"
    await admin.hset(PLACE, "bad", damaged)
    assert (await backend.delete_key(DOMAIN, "bad")).existed
    assert await listed(backend, DOMAIN) == ["good"]


async def test_no_condition_holds_for_a_corrupt_entry(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "bad", "1")
    await admin.hset(PLACE, "bad", "garbage")
    for condition in (base.ABSENT, 5):
        with pytest.raises(CorruptEntryError):
            await backend.set_value(DOMAIN, "bad", "2", condition=condition)


async def test_a_key_that_is_no_text_is_reported(backend: RedisBackend, admin: Any) -> None:
    await admin.zadd(f"{PLACE}:keys", {b"\xff": 0, b"\xc3\x28": 0})
    with pytest.raises(CorruptEntryError):
        await listed(backend, "service_1.channel_7.health_bars")


async def test_names_in_use_by_another_program_are_reported(backend: RedisBackend, admin: Any) -> None:
    await admin.set(PLACE, "a string")
    for operation in (backend.get_value(DOMAIN, "key"), backend.set_value(DOMAIN, "key", "1")):
        with pytest.raises(CorruptEntryError, match="key_prefix"):
            await operation
