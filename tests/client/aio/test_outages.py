"""A service that is away for some seconds: calls wait for it, end when they are told to, and say why."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from neardict import aio
from served import Served

from ..execute_server import ExecuteServer
from ..gate import DEADLINE
from ..scripted_service import FailedError, ScriptedService
from ..tcp_gate import TcpGate
from ..test_outages import AWAY_SECONDS, down_then_silent, unused_address


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)


async def keys(store: aio.Store, domain: str) -> list[str]:
    return [key async for key in store.all_keys(domain)]


async def test_a_service_that_is_away_for_seconds_fails_no_call_of_any_kind(
    server: Served, domain: str
) -> None:
    large = b"x" * 90_000
    with TcpGate(server.address) as network:
        async with aio.connect(network.address) as store:
            mirror, cache = await store.dict(domain), await store.dict(domain, load=False)
            await mirror.update(a=1, b=2, c=3, large=large)
            await until(lambda: mirror.fresh)
            network.close()
            await until(lambda: not mirror.fresh and not cache.fresh)
            calls: list[Awaitable[Any]] = [
                mirror.fetch("a"),
                mirror.snapshot(),
                mirror.set("b", 20),
                mirror.edit("c", lambda value: value + 1),
                cache.fetch("a"),
                store.get_many(domain, ["a", "large"]),
                store.set_many(domain, {"d": 4, "e": 5}),
                store.set_value(domain, "large", large),
                keys(store, domain),
                store.dict(domain),
                store.server_info(),
            ]
            running = [asyncio.ensure_future(call) for call in calls]
            await asyncio.sleep(AWAY_SECONDS)
            assert not any(one.done() for one in running)
            network.open()
            began = time.monotonic()
            await asyncio.gather(*running)
            assert time.monotonic() - began < 5
            assert await mirror.snapshot() == {"a": 1, "b": 20, "c": 4, "d": 4, "e": 5, "large": large}


async def test_writes_that_are_in_flight_when_the_service_dies_keep_their_order(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        server._args[server._args.index("--listen") + 1] = server.address
        async with aio.connect(server.address, timeout=60) as store:
            writing = [asyncio.ensure_future(store.set_value("d", "key", number)) for number in range(3000)]
            await until(lambda: writing[500].done())
            await asyncio.to_thread(server.kill)
            # Behind those that wait to be tried again.
            writing += [
                asyncio.ensure_future(store.set_value("d", "key", number)) for number in range(3000, 4000)
            ]
            await asyncio.to_thread(server.start)
            revisions = await asyncio.gather(*writing)
            assert revisions == sorted(revisions)
            assert await store.get_value("d", "key") == 3999


@pytest.mark.parametrize("timeout", [0.5, 2.0])
async def test_a_refused_port_is_named_at_the_deadline_and_not_before_nor_long_after(timeout: float) -> None:
    target = unused_address()
    async with aio.connect(target, timeout=timeout) as store:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: store.get_value("d", "k"),
            lambda: store.set_value("d", "k", 1),
            lambda: store.set_value("d", "k", "x" * 50_000),
            lambda: store.server_info(),
            lambda: keys(store, "d"),
            lambda: store.dict("d"),
        ]
        for call in calls:
            began = time.monotonic()
            with pytest.raises(neardict.UnavailableError) as caught:
                await call()
            assert timeout / 2 - 0.1 < time.monotonic() - began < timeout + 2
            assert f"cannot reach neardict at {target}: connection refused" in str(caught.value)
            assert caught.value.reason == ""


async def test_a_deadline_with_an_attempt_in_flight_says_what_came_of_the_one_before() -> None:
    with ExecuteServer(down_then_silent) as server:
        async with aio.connect(server.address, watch=False) as store:
            with pytest.raises(neardict.DeadlineExceededError, match="as the test wants it") as caught:
                await store.set_value("d", "k", 1, timeout=1)
            assert "did not respond in time" in str(caught.value)
            assert caught.value.reason == "BACKEND_UNAVAILABLE"


def every_kind(store: aio.Store) -> list[Awaitable[Any]]:
    return [
        store.get_value("d", "k"),
        store.set_value("d", "k", 1),
        store.set_value("d", "k", "x" * 50_000),
        store.set_value("d", "k", "x" * 5_000_000),
        store.set_many("d", {str(number): 1 for number in range(2000)}),
        store.server_info(),
        keys(store, "d"),
    ]


async def test_what_is_tried_again_goes_to_the_connection_of_then() -> None:
    def fail(request: Any) -> Any:
        raise FailedError(grpc.StatusCode.UNAVAILABLE)

    with ScriptedService() as service:
        service.answers["GetServerInfo"] = fail
        async with aio.connect(service.address, watch=False) as store:
            asked = asyncio.create_task(store.server_info())
            while not service.calls:
                await asyncio.sleep(0.005)
            store._connections.renew(store._pendings.executing.renew, at_once=True)
            service.answers.clear()
            assert (await asked).version == "1"


async def test_a_store_that_is_closed_ends_every_wait_at_once() -> None:
    store = aio.connect(unused_address(), timeout=60, watch=False)
    running = [asyncio.ensure_future(call) for call in every_kind(store)]
    await asyncio.sleep(0.5)
    assert not any(one.done() for one in running)
    began = time.monotonic()
    await store.close()
    for caught in await asyncio.gather(*running, return_exceptions=True):
        error = next(iter(caught.failures.values())) if isinstance(caught, neardict.BulkError) else caught
        assert isinstance(error, neardict.ClosedError)
    assert time.monotonic() - began < 5


async def test_a_task_that_is_cancelled_while_it_waits_ends_at_once() -> None:
    async with aio.connect(unused_address(), timeout=60, watch=False) as store:
        running = [asyncio.ensure_future(call) for call in every_kind(store)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert all(one.cancelled() for one in running)
        assert time.monotonic() - began < 5
        assert not store._pendings._deadlines


# Waiting for a service to come up.


async def test_connect_waits_for_a_service_that_comes_up(tmp_path: Path) -> None:
    address = unused_address()

    async def within() -> int:
        async with aio.connect(address, wait=60, watch=False) as store:
            return await store.set_value("d", "within", 1, timeout=DEADLINE)

    async def awaited() -> int:
        store = await aio.connect(address, wait=60, watch=False)
        try:
            return await store.set_value("d", "awaited", 1, timeout=DEADLINE)
        finally:
            await store.close()

    async def first_call() -> int:
        store = aio.connect(address, wait=60, watch=False, timeout=0.5)
        try:
            return await store.set_value("d", "first call", 1)
        finally:
            await store.close()

    connecting = [asyncio.ensure_future(one()) for one in (within, awaited, first_call)]
    # Longer than the timeout of a call.
    await asyncio.sleep(1.5)
    assert not any(one.done() for one in connecting)
    with Served("--listen", address, "--data", tmp_path):
        assert len(set(await asyncio.gather(*connecting))) == 3


async def test_connect_waits_for_no_longer_and_says_what_came_of_it() -> None:
    target = unused_address()
    began = time.monotonic()
    with pytest.raises(neardict.UnavailableError, match=f"neardict at {target}: connection refused"):
        async with aio.connect(target, wait=1):
            raise AssertionError
    with pytest.raises(neardict.UnavailableError, match=f"neardict at {target}: connection refused"):
        await aio.connect(target, wait=1)
    assert time.monotonic() - began < 8


async def test_without_wait_nothing_is_waited_for_and_connect_may_be_awaited() -> None:
    store = await aio.connect(unused_address(), watch=False)
    assert isinstance(store, aio.Store)
    await store.close()
    with pytest.raises(neardict.InvalidArgumentError, match="wait must be a number of seconds"):
        aio.connect("localhost:1", wait="5")  # type: ignore[arg-type]  # on purpose
