"""What the asyncio client promises beside being a dict: hits, expiry, errors, deadlines."""

import asyncio
import contextlib
import math
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from neardict import aio
from neardict._contents import MISSING
from neardict.aio._expiry import LoopExpiry
from served import Served

from ..gate import DEADLINE, Fault, Gate

KEYS = ["a", "b", "c"]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)


def held(cache: aio.CachedDict, key: str) -> Any:
    return dict.get(cache, key, MISSING)


async def test_hits_need_no_service_and_a_service_that_is_gone_is_named(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        async with aio.connect(server.address) as store:
            mirror, cache = await store.dict("d"), await store.dict("d", load=False)
            await mirror.update(a=[1], b=2)
            assert await cache.get_many(["a", "b"]) == {"a": [1], "b": 2}
            # From now on nothing answers; what is held is trusted for a few seconds all the same.
            server.process.send_signal(signal.SIGSTOP)
            for d in (mirror, cache):
                assert d["a"] == [1]
                assert "b" in d
                assert await d.fetch("b") == 2
                assert await d.get_many(["a", "b"]) == {"a": [1], "b": 2}
            assert await mirror.snapshot() == mirror == {"a": [1], "b": 2}
            server.kill()
            calls: list[Awaitable[Any]] = [
                cache.snapshot(),
                mirror.set("a", 2),
                cache.fetch("c"),
                store.server_info(),
                mirror.update({f"{number}": 1 for number in range(200)}),
            ]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(error, neardict.BulkError):
                    assert len(error.failures) == 200
                    error = next(iter(error.failures.values()))
                assert isinstance(error, neardict.UnavailableError)
                assert f"cannot reach neardict at {server.address}: connection refused. Start" in str(error)


async def test_every_call_to_a_service_that_hangs_ends_in_time(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        async with aio.connect(server.address, timeout=1, watch=False) as store:
            d = await store.dict("d")
            await d.set("key", "old")
            many = {f"{number}": number for number in range(2000)}
            server.process.send_signal(signal.SIGSTOP)
            try:
                begun = time.monotonic()
                calls: list[Awaitable[Any]] = [
                    d.set("key", "new"),
                    d.delete("key"),
                    d.fetch("other"),
                    d.refresh(),
                    d.get_many(many),
                    d.update(many),
                    d.clear(),
                    store.dict("d"),
                    store.get_value("d", "key", timeout=0.5),
                ]
                for error in await asyncio.gather(*calls, return_exceptions=True):
                    if isinstance(error, neardict.BulkError):
                        assert len(error.failures) == len(many)
                        error = next(iter(error.failures.values()))
                    assert isinstance(error, neardict.DeadlineExceededError)
                assert time.monotonic() - begun < 12
            finally:
                server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INTERNAL, neardict.ServiceError),
        (grpc.StatusCode.ABORTED, neardict.ConflictError),
        (grpc.StatusCode.DATA_LOSS, neardict.DataLossError),
        (grpc.StatusCode.PERMISSION_DENIED, neardict.PermissionDeniedError),
    ],
)
async def test_each_status_has_its_error(
    gate: Gate, agated: aio.Store, domain: str, status: grpc.StatusCode, kind: type[Exception]
) -> None:
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "GetValue": lambda: agated.get_value(domain, "key"),
        "AllKeys": lambda: agated.dict(domain),
        "GetServerInfo": lambda: agated.server_info(),
    }
    for method, call in calls.items():
        gate.hold(method).fail(status)
        with pytest.raises(kind) as caught:
            await call()
        assert type(caught.value) is kind


async def test_an_absent_key_is_a_key_error_that_knows_the_key(astore: aio.Store, domain: str) -> None:
    d = await astore.dict(domain)
    acts: list[Callable[[], Awaitable[Any]]] = [
        lambda: d.fetch("no such key"),
        lambda: d.delete("no such key"),
        lambda: d.pop("no such key"),
        lambda: d.save("no such key"),
        lambda: d.edit("no such key", len),
        lambda: astore.get_value(domain, "no such key"),
    ]
    for act in acts:
        with pytest.raises(KeyError) as caught:
            await act()
        assert isinstance(caught.value, neardict.AbsentKeyError)
        assert caught.value.key == "no such key"


async def test_an_edit_in_place_is_never_lost_without_an_error(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d = await agated.dict(domain)
    await d.set("key", ["old"])
    d["key"].append("edited")
    gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
    with pytest.raises(neardict.ServiceError):
        await d.save("key")
    with pytest.raises(neardict.NotHeldError, match=r"await d.set\(key, value\)"):
        await d.save("key")


async def test_one_corrupt_entry_does_not_make_the_dict_vanish(
    astore: aio.Store, data: Path, domain: str, caplog: pytest.LogCaptureFixture
) -> None:
    domain = f"files.{domain}"
    await astore.set_many(domain, {"good": 1, "bad": 2})
    (damaged,) = data.glob(f"files/**/{domain.rpartition('.')[2]}/bad.json")
    damaged.write_text("{")
    d = await astore.dict(domain)
    assert d == {"good": 1}
    assert "1 entries of the domain" in caplog.text
    with pytest.raises(neardict.DataLossError):
        await d.fetch("bad")
    await d.delete("bad")


async def test_expired_entries_disappear_by_themselves(astore: aio.Store, domain: str) -> None:
    await astore.set_value(domain, "listed", 1, ttl=1.0)
    mirror, cache = await astore.dict(domain), await astore.dict(domain, load=False)
    await astore.set_value(domain, "published", 1, ttl=1.0)
    await mirror.set("stays", 1)
    assert await cache.has("published")
    assert held(mirror, "listed") == held(mirror, "published") == held(cache, "published") == 1
    await until(lambda: mirror == {"stays": 1})
    assert held(cache, "published") is MISSING
    assert not await cache.has("published")


async def test_an_expiring_entry_that_is_held_again_expires_once(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    # What goes wrong in a timer is an error of the loop, of which the fixture knows.
    d = await agated.dict(domain)
    await agated.set_value(domain, "key", 1, ttl=0.2)
    gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
    with pytest.raises(neardict.ServiceError):
        await d.set("key", 2)
    await d.fetch("key")  # the same entry again
    await until(lambda: held(d, "key") is MISSING)
    await asyncio.sleep(0.01)
    assert not await d.has("key")


async def test_an_entry_that_is_renewed_again_and_again_has_one_timer(astore: aio.Store, domain: str) -> None:
    d = await astore.dict(domain)
    for number in range(50):
        await astore.set_value(domain, "session", number, ttl=3600)
    assert d["session"] == 49
    assert len(astore.expiry._timers) == 1
    await astore.close()
    assert len(astore.expiry._timers) == 0


async def test_a_timer_that_comes_early_by_the_wall_clock_waits_on(astore: aio.Store, domain: str) -> None:
    now = 1000.0
    astore.expiry = LoopExpiry(lambda: now)
    d = await astore.dict(domain)
    astore.expiry.add(d, "key", 1, 1000.01)
    now -= 500  # the clock is set
    await asyncio.sleep(0.03)
    (timer,) = astore.expiry._timers.values()
    assert timer.when() > asyncio.get_running_loop().time() + 400
    astore.expiry.close()


@pytest.mark.parametrize("seed", range(4))
async def test_many_tasks_with_failures_and_cancellations_leave_what_is_stored(
    gate: Gate, agated: aio.Store, domain: str, seed: int
) -> None:
    chance = random.Random(seed)
    faults = random.Random(f"faults {seed}")

    def fault() -> Fault:
        failing = faults.random() < 0.05
        return Fault(
            faults.choice([0.0, 0.0, 0.001, 0.003]),
            grpc.StatusCode.INTERNAL if failing else None,
            faults.random() < 0.7,
        )

    gate.faults = fault
    dicts = [await agated.dict(domain, load=load) for load in (True, False, True)]

    caused = (neardict.ServiceError, neardict.BulkError, neardict.ConflictError)

    async def act() -> None:
        d, key = chance.choice(dicts), chance.choice(KEYS)
        value = [chance.random()]
        reads: list[Callable[[], Awaitable[Any]]] = [
            lambda: d.fetch(key, None),
            lambda: d.get_many(KEYS),
            lambda: d.snapshot(),
            lambda: d.refresh(),
        ]
        writes: list[Callable[[], Awaitable[Any]]] = [
            lambda: d.set(key, value),
            lambda: d.update({key: value, chance.choice(KEYS): value}),
            lambda: d.pop(key, None),
            lambda: d.delete_many([key]),
            lambda: d.edit(key, lambda old: value, default=0, timeout=1),
            lambda: agated.set_value(domain, key, value),
            lambda: agated.delete_key(domain, key),
        ]
        if chance.random() < 0.2:
            # Not writes, since what these do after they were given up is not for a dict to know.
            with contextlib.suppress(TimeoutError, *caused):
                async with asyncio.timeout(chance.choice([0, 0.001, 0.002])):
                    await chance.choice(reads)()
        else:
            with contextlib.suppress(*caused):
                await chance.choice(reads + writes)()

    async def work() -> None:
        for _ in range(40):
            await act()

    await asyncio.gather(*(work() for _ in range(8)))
    gate.faults = Fault
    stored = {entry.key: entry.value async for entry in agated.all_entries(domain)}
    for d in dicts:
        assert await d.snapshot() == stored
        assert await d.get_many(KEYS) == stored
        assert not d._flights


async def test_what_is_no_timeout_is_refused_and_infinity_is_one(
    server: Served, astore: aio.Store, domain: str
) -> None:
    calls: list[Callable[[Any], Awaitable[Any]]] = [
        lambda timeout: astore.set_value(domain, "k", 1, timeout=timeout),
        lambda timeout: astore.get_value(domain, "k", timeout=timeout),
        lambda timeout: astore.set_many(domain, {"k": 1}, timeout=timeout),
        lambda timeout: astore.server_info(timeout=timeout),
    ]
    for call in calls:
        await call(math.inf)
        for timeout in ("5", math.nan, [1]):
            with pytest.raises(neardict.InvalidArgumentError, match="timeout must be a number of seconds"):
                await call(timeout)
    assert [key async for key in astore.all_keys(domain, timeout=math.inf)]
    with pytest.raises(neardict.InvalidArgumentError):
        await astore.set_value(domain, "in chunks", "x" * 8_000_000, timeout=math.nan)
    mirror = await astore.dict(domain)
    for many in (astore.get_many(domain, "k"), astore.delete_many(domain, "k"), mirror.delete_many("k")):
        with pytest.raises(neardict.InvalidArgumentError, match="keys must be a list of keys"):
            await many
    wrongs: list[dict[str, Any]] = [{"timeout": "5"}, {"timeout": None}, {"credentials": "x"}]
    for wrong in wrongs:
        with pytest.raises(neardict.InvalidArgumentError):
            aio.connect(server.address, **wrong)
