"""Listings: exactly once, whatever happens meanwhile, in bounded pages."""

import asyncio
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.redis import backend as redis_backend
from redis_backend import DOMAIN, PLACE


async def test_what_stays_is_met_once_while_redis_rehashes(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_backend, "PAGE_KEYS", 40)
    generator = random.Random(2)
    names = [f"{generator.random()}" for _ in range(4000)]
    staying, coming = names[:1000], iter(names[1000:])
    await asyncio.gather(*(backend.set_value(DOMAIN, key, "0") for key in staying))
    for entries in (False, True):
        seen: Counter[str] = Counter()
        came: list[str] = []
        async for page in backend.all_keys(DOMAIN, entries=entries):
            seen.update(page.keys or [entry.key for entry in page.entries])
            # Insert, overwrite and delete between any two pages; the hash grows and shrinks.
            fresh = list(itertools.islice(coming, 50))
            await asyncio.gather(
                *(backend.set_value(DOMAIN, key, "1") for key in fresh + staying[:10]),
                *(backend.delete_key(DOMAIN, key) for key in came),
            )
            came = fresh
        assert set(seen.values()) == {1}
        assert set(staying) <= set(seen)


async def test_a_large_domain_comes_in_bounded_pages(backend: RedisBackend, admin: Any) -> None:
    keys = [f"{number:06}" + "k" * (number % 200) for number in range(50_000)]
    for some in itertools.batched(keys, 5000) if hasattr(itertools, "batched") else [keys]:
        await admin.hset(PLACE, mapping=dict.fromkeys(some, f"1 0 raw {'x' * 100}"))
        await admin.zadd(f"{PLACE}:keys", dict.fromkeys(some, 0))
    for entries in (False, True):
        found: list[str] = []
        async for page in backend.all_keys(DOMAIN, entries=entries):
            part = page.keys or [entry.key for entry in page.entries]
            assert len(part) <= redis_backend.PAGE_KEYS
            found += part
        assert found == keys


async def test_long_keys_close_a_page_by_their_bytes(backend: RedisBackend) -> None:
    keys = [f"{number:04}" + "k" * 1020 for number in range(600)]
    await asyncio.gather(*(backend.set_value(DOMAIN, key, "1") for key in keys))
    pages = [page.keys async for page in backend.all_keys(DOMAIN)]
    assert [key for page in pages for key in page] == keys
    assert max(sum(map(len, page)) for page in pages) <= base.PAGE_BYTES + 1024


async def test_a_key_without_its_entry_is_no_key_of_a_list_of_entries(
    backend: RedisBackend, admin: Any
) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.hdel(PLACE, "key")
    (page,) = [page async for page in backend.all_keys(DOMAIN, entries=True)]
    assert not page.entries
