"""Redis that is down, frozen, killed, full or demoted; and calls that are given up."""

import asyncio
import itertools
import logging
import random
from typing import Any

import pytest
import redis.asyncio

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.errors import (
    BackendUnavailableError,
    StorageFullError,
)
from redis_backend import DOMAIN, PLACE, listed, opened, until, until_usable, value_of
from redis_server import RedisServer

# Short enough for a test to wait for, long enough for a busy machine.
IMPATIENT = {"connect_timeout_seconds": 0.4, "command_timeout_seconds": 0.4}


async def test_redis_may_come_up_after_us(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.stop()
    caplog.set_level(logging.INFO)
    async with opened(server) as backend:
        for operation in (
            backend.get_value(DOMAIN, "key"),
            backend.set_value(DOMAIN, "key", "1"),
            backend.delete_key(DOMAIN, "key"),
            listed(backend, DOMAIN),
        ):
            with pytest.raises(BackendUnavailableError):
                await operation
        server.start()
        await backend.set_value(DOMAIN, "key", "1")
        assert await value_of(backend, DOMAIN, "key") == "1"
    told = [record.getMessage() for record in caplog.records if record.name.startswith("neardict")]
    assert len(told) == 2
    assert "cannot be used" in told[0]
    assert "can be used again" in told[1]


async def test_a_restart_of_redis_while_we_are_idle_is_not_noticed() -> None:
    with RedisServer(durable=True) as server:
        async with opened(server) as backend:
            await asyncio.gather(*(backend.set_value(DOMAIN, str(n), "1") for n in range(50)))
            server.restart()
            await asyncio.gather(*(backend.set_value(DOMAIN, str(n), "2") for n in range(50)))
            assert await value_of(backend, DOMAIN, "49") == "2"


async def test_what_was_acknowledged_outlives_kill_9() -> None:
    generator = random.Random(11)
    acknowledged: dict[str, tuple[int, int]] = {}
    with RedisServer(durable=True) as server:
        async with opened(server) as backend:
            for _ in range(3):
                await write_until_killed(server, backend, generator.randrange(50, 300), acknowledged)
                server.start()
                for key, (number, revision) in acknowledged.items():
                    entry = (await backend.get_value(DOMAIN, key)).entry
                    assert entry is not None
                    # The last one of each may have been stored without an answer.
                    assert int(entry.value) in (number, number + 1)
                    assert entry.revision >= revision
                assert set(await listed(backend, DOMAIN)) == set(acknowledged)


async def test_a_frozen_redis_is_unavailable_in_bounded_time(server: RedisServer) -> None:
    async with opened(server, **IMPATIENT) as backend:
        await asyncio.gather(*(backend.set_value(DOMAIN, str(n), "0") for n in range(20)))
        server.pause()
        for _ in range(2):  # on connections that were open before, and on new ones
            async with asyncio.timeout(5):
                results = await asyncio.gather(
                    *(backend.set_value(DOMAIN, "key", "1", request_id=f"r{n}") for n in range(50)),
                    *(backend.get_value(DOMAIN, "key") for _ in range(50)),
                    *(listed(backend, DOMAIN) for _ in range(10)),
                    return_exceptions=True,
                )
            assert {type(result) for result in results} == {BackendUnavailableError}
        server.resume()
        await until_usable(lambda: backend.get_value(DOMAIN, "0"))
        # Some of them took effect once Redis went on. With the same id each does so once.
        before = await backend.set_value(DOMAIN, "key", "1", request_id="r0")
        await backend.set_value(DOMAIN, "key", "2")
        assert await backend.set_value(DOMAIN, "key", "1", request_id="r0") == before
        assert await value_of(backend, DOMAIN, "key") == "2"


async def test_an_unanswered_write_with_a_condition_may_be_repeated(server: RedisServer) -> None:
    async with opened(server, **IMPATIENT) as backend:
        server.pause()
        with pytest.raises(BackendUnavailableError, match="request_id"):
            await backend.set_value(DOMAIN, "key", "1", condition=base.ABSENT, request_id="r")
        server.resume()
        await until_usable(
            lambda: backend.set_value(DOMAIN, "key", "1", condition=base.ABSENT, request_id="r")
        )
        assert await value_of(backend, DOMAIN, "key") == "1"


async def test_callers_who_give_up_cost_no_connection(server: RedisServer) -> None:
    async with opened(server, max_connections=2) as backend:
        for _ in range(20):
            tasks = [asyncio.ensure_future(backend.set_value(DOMAIN, str(n), "1")) for n in range(10)]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.wait(tasks)
            assert done
        await asyncio.gather(*(backend.set_value(DOMAIN, str(n), "2") for n in range(200)))
        assert len(await listed(backend, DOMAIN)) == 200


async def test_what_was_given_up_before_it_was_sent_does_not_come_later(
    server: RedisServer, backend: RedisBackend
) -> None:
    async with opened(server, max_connections=2) as narrow:
        server.pause()
        tasks = []
        for number in range(10):
            # One after the other, for those that come at the same moment go down one connection.
            tasks.append(asyncio.ensure_future(narrow.set_value(DOMAIN, str(number), "1")))
            await asyncio.wait(tasks, timeout=0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        server.resume()
    # Closing waited for the two that may have been sent.
    assert set(await listed(backend, DOMAIN)) <= {"0", "1"}


async def test_closing_waits_for_writes_under_way_and_refuses_later_ones(
    server: RedisServer, backend: RedisBackend
) -> None:
    closing = await asyncio.gather(*(closed_while_writing(server, n) for n in range(3)))
    for key in closing:
        assert await value_of(backend, DOMAIN, key) == "1"
    await backend.close()
    with pytest.raises(BackendUnavailableError):
        await backend.get_value(DOMAIN, "key")


async def test_flushed_scripts_are_loaded_again(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.script_flush()
    await backend.set_value(DOMAIN, "key", "2")
    await admin.script_flush()
    assert await value_of(backend, DOMAIN, "key") == "2"
    await admin.script_flush()
    assert await listed(backend, DOMAIN) == ["key"]


async def test_a_full_redis_refuses_the_whole_write(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.config_set("maxmemory", 1)
    with pytest.raises(StorageFullError, match="maxmemory"):
        await backend.set_value(DOMAIN, "other", "1", ttl=10**9, request_id="r")
    assert await value_of(backend, DOMAIN, "key") == "1"
    assert await listed(backend, DOMAIN) == ["key"]
    assert sorted(await admin.keys("*")) == [
        name.encode() for name in (PLACE, f"{PLACE}:changes", f"{PLACE}:keys", f"{PLACE}:revision")
    ]
    assert (await backend.delete_key(DOMAIN, "key")).existed
    await admin.config_set("maxmemory", 0)
    await backend.set_value(DOMAIN, "other", "1", request_id="r")


async def test_a_replica_takes_no_writes_until_it_is_primary(
    server: RedisServer, backend: RedisBackend, admin: Any
) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.replicaof(server.host, "1")
    with pytest.raises(BackendUnavailableError, match="primary"):
        await backend.set_value(DOMAIN, "key", "2")
    assert await value_of(backend, DOMAIN, "key") == "1"
    await admin.replicaof("NO", "ONE")
    await backend.set_value(DOMAIN, "key", "2")


async def test_another_programs_endless_script_makes_it_unavailable(
    server: RedisServer, backend: RedisBackend, admin: Any
) -> None:
    await backend.set_value(DOMAIN, "key", "1")
    await admin.config_set("lua-time-limit", 10)
    async with redis.asyncio.Redis(port=server.port) as other:
        told: list[str] = []
        endless: Any = asyncio.ensure_future(other.eval("while true do end", 0))

        async def busy() -> bool:
            try:
                await backend.set_value(DOMAIN, "key", '"a value"')
            except BackendUnavailableError as error:
                told.append(str(error))
            return "BUSY" in "".join(told)

        await until(busy)
        assert "a value" not in "".join(told)
        await admin.script_kill()
        with pytest.raises(redis.exceptions.ResponseError):
            await endless
    await backend.set_value(DOMAIN, "key", "2")


async def closed_while_writing(server: RedisServer, number: int) -> str:
    async with opened(server) as backend:
        task = asyncio.ensure_future(backend.set_value(DOMAIN, f"closing {number}", "1"))
        await asyncio.sleep(0)
    await task
    return f"closing {number}"


async def write_until_killed(
    server: RedisServer, backend: RedisBackend, writes: int, acknowledged: dict[str, tuple[int, int]]
) -> None:
    """Counts up in 16 keys at once, and kills Redis among the writes that follow so many."""
    answers = itertools.count(1)

    async def count_up(key: str) -> None:
        for number in itertools.count(acknowledged.get(key, (0, 0))[0] + 1):
            try:
                written = await backend.set_value(DOMAIN, key, str(number))
            except BackendUnavailableError:
                return
            acknowledged[key] = (number, written.revision)
            if next(answers) == writes:
                server.kill()

    await asyncio.gather(*(count_up(f"k{number}") for number in range(16)))
