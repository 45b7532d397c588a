"""redis: what waits for a node at the same moment goes down one connection, and each call ends for itself."""

import asyncio
from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.base import Get, Set
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.redis.client import MOST_CALLS
from neardict_server.errors import BackendUnavailableError, ConditionFailedError
from redis_backend import DOMAIN, opened
from redis_server import RedisServer


async def clients(admin: Any) -> int:
    """Returns how many connections there are."""
    return len(await admin.client_list())


async def test_calls_at_the_same_moment_share_a_connection(backend: RedisBackend, admin: Any) -> None:
    before = await clients(admin)
    written = await asyncio.gather(
        *(backend.set_value(f"d{number}", "key", f"{number}") for number in range(MOST_CALLS))
    )
    assert len(written) == MOST_CALLS
    assert await clients(admin) <= before + 1
    found = await asyncio.gather(
        *(backend.execute(f"d{number}", [Get("key"), Set("key", "x")]) for number in range(MOST_CALLS))
    )
    for number, (lookup, made) in enumerate(found):
        assert isinstance(lookup, base.Lookup)
        assert lookup.entry == base.Entry("key", f"{number}", written[number].revision)
        assert isinstance(made, base.Written)
    assert await clients(admin) <= before + 1


async def test_one_that_fails_leaves_those_beside_it_alone(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value("d1", "key", "1")
    await admin.set("neardict:{d2}", "a string")
    good, failed, bad, also = await asyncio.gather(
        backend.set_value("d1", "other", "1"),
        backend.set_value("d1", "key", "2", condition=base.ABSENT),
        backend.set_value("d2", "key", "1"),
        backend.get_value("d1", "key"),
        return_exceptions=True,
    )
    assert isinstance(good, base.Written)
    assert isinstance(failed, ConditionFailedError)
    assert isinstance(bad, Exception)
    assert isinstance(also, base.Lookup)


async def test_scripts_that_were_flushed_are_loaded_for_all(backend: RedisBackend, admin: Any) -> None:
    await admin.script_flush()
    written = await asyncio.gather(*(backend.set_value(f"d{n}", "key", "1") for n in range(10)))
    assert all(isinstance(one, base.Written) for one in written)


async def test_callers_who_give_up_leave_those_beside_them_alone(backend: RedisBackend) -> None:
    for when in range(4):
        tasks = [asyncio.create_task(backend.set_value(DOMAIN, str(n), "1")) for n in range(20)]
        for _ in range(when):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended[::2])
        assert all(isinstance(one, base.Written) for one in ended[1::2])


async def test_more_than_the_connections_take_wait_for_their_turn(server: RedisServer) -> None:
    async with opened(server, max_connections=1) as backend:
        async with asyncio.timeout(15):
            written = await asyncio.gather(
                *(backend.set_value(f"d{n}", "key", "1") for n in range(10 * MOST_CALLS))
            )
        assert len(written) == 10 * MOST_CALLS


async def test_a_redis_that_hangs_fails_all_in_time(server: RedisServer) -> None:
    async with opened(
        server, max_connections=1, connect_timeout_seconds=0.3, command_timeout_seconds=0.3
    ) as backend:
        server.pause()
        try:
            async with asyncio.timeout(10):
                ended = await asyncio.gather(
                    *(backend.get_value(f"d{n}", "key") for n in range(3 * MOST_CALLS)),
                    return_exceptions=True,
                )
        finally:
            server.resume()
        assert all(isinstance(one, BackendUnavailableError) for one in ended)


async def test_what_waits_when_the_backend_closes_is_told(server: RedisServer) -> None:
    async with opened(server, max_connections=1) as backend:
        calls = [asyncio.create_task(backend.set_value(f"d{n}", "key", "1")) for n in range(5 * MOST_CALLS)]
        await asyncio.sleep(0)
        await backend.close()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in ended} <= {base.Written, BackendUnavailableError}
        with pytest.raises(BackendUnavailableError, match="closing"):
            await backend.get_value("d", "key")
