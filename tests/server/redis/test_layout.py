"""How a domain is kept in Redis, and that it can be read there."""

import asyncio
import itertools
import random
from typing import Any

from redis.crc import key_slot

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.testing.contract import ODD_KEYS
from redis_backend import DOMAIN, PLACE, listed, opened, value_of
from redis_server import RedisServer

ODD_DOMAINS = [
    "{", "}", "{}", "}{", "{a}", "a{b}c", "%", "%7B", "%7Ba%7D", "a", "a.b", "a:b", "a:keys", "a}:keys",
    "*", "a b", "é", "e\u0301", "\U0001f600", "\n", "{a}:requests:r", "A",
]  # fmt: skip


async def test_a_value_is_readable_in_redis(backend: RedisBackend, admin: Any) -> None:
    written = await backend.set_value(DOMAIN, "alice", '{"hp": 5}')
    assert await admin.hget(PLACE, "alice") == f'{written.revision} 0 json {{"hp": 5}}'.encode()
    assert await admin.get(f"{PLACE}:revision") == str(written.revision).encode()
    assert await admin.zrange(f"{PLACE}:keys", 0, -1) == [b"alice"]
    expiring = await backend.set_value(DOMAIN, "bob", b"\0\xff", ttl=10**9)
    assert await admin.hget(PLACE, "bob") == (
        f"{expiring.revision} {expiring.expires} raw ".encode() + b"\0\xff"
    )
    assert await admin.zscore(f"{PLACE}:expiries", "bob") == expiring.expires


async def test_what_another_program_writes_in_this_form_is_seen(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "alice", "1")
    await admin.hset(PLACE, "alice", "5 0 json [2]")
    assert (await backend.get_value(DOMAIN, "alice")).entry == base.Entry("alice", "[2]", 5)


async def test_all_names_of_a_domain_are_in_one_slot(backend: RedisBackend, admin: Any) -> None:
    for domain in ODD_DOMAINS:
        await admin.flushall()
        await backend.set_value(domain, "key", "1", ttl=10**9, request_id="}{r")
        names = [name async for name in admin.scan_iter()]
        assert len(names) == 6
        assert len({key_slot(name) for name in names}) == 1


async def test_domains_do_not_touch_each_other(backend: RedisBackend) -> None:
    for number, domain in enumerate(ODD_DOMAINS):
        await backend.set_value(domain, "key", str(number), request_id="r", ttl=10**9)
        await backend.set_value(domain, f"key {number}", "0")
    for number, domain in enumerate(ODD_DOMAINS):
        assert await value_of(backend, domain, "key") == str(number)
        assert await listed(backend, domain) == ["key", f"key {number}"]


async def test_prefixes_of_names_do_not_touch_each_other(server: RedisServer) -> None:
    async with opened(server, key_prefix="one") as one, opened(server, key_prefix="two", db=None) as two:
        await one.set_value(DOMAIN, "key", "1")
        assert await value_of(two, DOMAIN, "key") is None
        async with opened(server, url=server.url, key_prefix="one") as by_url:
            assert await value_of(by_url, DOMAIN, "key") == "1"
        async with opened(server, key_prefix="one", db=3) as elsewhere:
            assert await value_of(elsewhere, DOMAIN, "key") is None


async def test_every_character_may_be_in_a_key(backend: RedisBackend) -> None:
    characters = [chr(code) for code in itertools.chain(range(1, 0x180), (0xD7FF, 0xE000, 0xFFFF, 0x10FFFF))]
    keys = sorted({*characters, *(f"a{character}b" for character in characters), *ODD_KEYS})
    await asyncio.gather(*(backend.set_value(DOMAIN, key, str(n)) for n, key in enumerate(keys)))
    # By code points as by bytes of UTF-8.
    assert await listed(backend, DOMAIN) == keys
    for prefix in ("a", "*", "[", "(", "+", "-", "\x7f", "ÿ", "a\U0010ffff", "k" * 1024, "%"):
        expected = [key for key in keys if key.startswith(prefix)]
        assert await listed(backend, DOMAIN, prefix=prefix) == expected
    for number, key in enumerate(keys):
        assert await value_of(backend, DOMAIN, key) == str(number)


async def test_raw_bytes_are_kept_exactly(backend: RedisBackend) -> None:
    generator = random.Random(7)
    values = [b"", b" ", b"\r\n", b"1 0 json 2", b"\0" * 10, b"\xff\xfe", generator.randbytes(300_000)]
    for number, value in enumerate(values):
        await backend.set_value(DOMAIN, str(number), value)
    pages = [page async for page in backend.all_keys(DOMAIN, entries=True)]
    assert [entry.value for page in pages for entry in page.entries] == values
    for number, value in enumerate(values):
        assert await value_of(backend, DOMAIN, str(number)) == value
