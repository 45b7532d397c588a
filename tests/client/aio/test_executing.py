"""The client engine under asyncio: the same stream, and what belongs to tasks and event loops."""

import asyncio
import contextlib
import gc
import itertools
import math
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import pytest

import neardict
from neardict import _bulk, aio
from neardict.v1 import storage_pb2 as pb
from served import Served

from ..execute_server import ExecuteServer, error, plain
from ..gate import DEADLINE
from ..test_executing import Responses, Stalling


def engine_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks(loop) if task.get_name().startswith("neardict execute")}


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_lone_operation_is_sent_at_once_and_many_tasks_share_messages() -> None:
    with ExecuteServer(plain) as server:
        async with aio.connect(server.address, watch=False) as store:
            for number in range(10):
                await store.set_value("a", "key", number)
            assert [len(message.operations) for message in server.messages] == [1] * 10
            await asyncio.gather(*(store.set_value("a", str(number), number) for number in range(1000)))
            assert len(server.messages) < 10 + 500
            assert server.streams == 1
            assert not server.calls


async def test_bulks_keep_the_window_and_make_no_task_for_each_operation(server: Served, domain: str) -> None:
    async with aio.connect(server.address, watch=False, timeout=DEADLINE) as store:
        expected = {str(number): number for number in range(5000)}
        tasks = len(asyncio.all_tasks())
        work = asyncio.create_task(store.set_many(domain, expected))
        most_tasks = most_sent = 0
        while not work.done():
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            most_sent = max(most_sent, len(store._pendings.executing._pipeline._unanswered))
            await asyncio.sleep(0)
        assert (await work).keys() == expected.keys()
        # Its own, and those of the stream, some of which are gRPC's.
        assert most_tasks <= tasks + 6
        assert 1 < most_sent <= _bulk.WINDOW
        assert await store.get_many(domain, expected) == expected
        assert await store.delete_many(domain, expected) == 5000
        assert not store._pendings._deadlines


async def test_a_service_without_the_stream_is_asked_by_calls_as_before() -> None:
    with ExecuteServer() as server:
        async with aio.connect(server.address, watch=False) as store:
            expected = {str(number): number for number in range(3000)}
            await store.set_many("a", expected)
            assert await store.get_many("a", expected) == expected
            assert await store.delete_many("a", expected) == 3000
            await store.set_value("a", "key", 1)
            assert await store.get_value("a", "key") == 1
            assert await store.delete_key("a", "key")
            assert len(server.calls) == 9003


async def test_large_values_go_as_calls_of_their_own() -> None:
    with ExecuteServer(plain) as server:
        async with aio.connect(server.address, watch=False) as store:
            large = "x" * 20_000
            await store.set_many("a", {"large": large, "small": 1, "larger": large})
            assert server.calls == ["SetValue", "SetValue"]
            assert await store.get_value("a", "large") == large


async def test_a_domain_that_stalls_costs_its_own_operations_their_time_and_no_others() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        async with aio.connect(server.address, watch=False) as store:
            await store.set_value("other", "key", 0)
            stalled = [
                asyncio.create_task(store.set_value("stalled", str(number), number)) for number in range(5000)
            ]
            bulk = asyncio.create_task(store.set_many("stalled", dict.fromkeys(map(str, range(3000)), 1)))
            with pytest.raises(neardict.DeadlineExceededError):
                await store.get_value("stalled", "key", timeout=0.05)
            for number in range(50):
                await store.set_value("other", "key", number)
            assert not any(task.done() for task in stalled)
            stalling.go.set()
            await store.set_value("other", "key", 1)
            await asyncio.gather(bulk, *stalled)
            assert not store._pendings.executing._pipeline._load
            assert server.streams == 1


async def test_a_task_that_is_cancelled_takes_its_operation_with_it() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        async with aio.connect(server.address, watch=False) as store:
            await store.set_value("other", "key", 0)
            pipeline = store._pendings.executing._pipeline
            # Before it was sent: at once, and with a window that is full.
            task = asyncio.create_task(store.set_value("other", "never", 1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            tasks = [asyncio.create_task(store.set_value("stalled", str(n), n)) for n in range(1500)]
            await until(lambda: len(server.operations) > _bulk.WINDOW)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() for task in tasks)
            await until(lambda: len(server.cancelled) == _bulk.WINDOW)
            assert not pipeline._held
            assert not pipeline._queue
            assert not store._pendings._deadlines
            # After: the service has done it, and nobody is told.
            assert pipeline._load == {"stalled": _bulk.WINDOW}
            stalling.go.set()
            await store.set_value("other", "key", 1)
            await until(lambda: pipeline._load == {})
            assert ("other", "never") not in server.values
            assert ("stalled", "1400") not in server.values


async def test_a_bulk_that_is_cancelled_leaves_in_doubt_what_was_under_way_and_nothing_else() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        async with aio.connect(server.address, watch=False) as store:
            await store.set_value("stalled2", "key", 0)
            d = await store.dict("stalled", load=False)
            doubted: list[str] = []
            doubt = store.changes.failed

            def failed(domain: str, key: str, error: BaseException) -> None:
                doubted.append(key)
                doubt(domain, key, error)

            store.changes.failed = failed  # type: ignore[method-assign]  # listens
            work = asyncio.create_task(d.update({str(number): number for number in range(3000)}))
            await until(lambda: len(server.operations) > _bulk.WINDOW)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            assert doubted == [str(number) for number in range(_bulk.WINDOW)]
            await until(lambda: len(server.cancelled) == _bulk.WINDOW)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
async def test_without_any_time_nothing_is_sent(seconds: float) -> None:
    with ExecuteServer(plain) as server:
        async with aio.connect(server.address, watch=False) as store:
            with pytest.raises(neardict.DeadlineExceededError):
                await store.set_value("a", "key", 1, timeout=seconds)
            await store.set_value("a", "other", 1, timeout=math.inf)
            assert len(server.operations) == 1


async def test_deadlines_of_many_are_kept_whatever_their_order() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        async with aio.connect(server.address, watch=False) as store:
            began = time.monotonic()

            async def wait(seconds: float) -> float:
                with pytest.raises(neardict.DeadlineExceededError):
                    await store.get_value("stalled", "key", timeout=seconds)
                return time.monotonic() - began - seconds

            late = await asyncio.gather(*(wait(number % 7 / 20 + 0.05) for number in range(300)))
            assert min(late) > -0.01
            assert max(late) < 1.5


async def test_all_operations_of_a_lost_stream_are_repeated_together() -> None:
    def losing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            if server.streams < 4 and len(server.operations) >= 500 * server.streams:
                context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants it")
            time.sleep(0.001 * len(message.operations))
            yield server.answer(message)

    with ExecuteServer(losing) as server:
        async with aio.connect(server.address, watch=False) as store:
            expected = {str(number): number for number in range(3000)}
            await store.set_many("a", expected, timeout=8)
            assert await store.get_many("a", expected) == expected


async def test_an_operation_whose_backend_is_down_is_tried_again_alone_until_its_deadline() -> None:
    failures = itertools.count()

    def failing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            for one in message.operations:
                if one.set_value.key == "gone" or (one.set_value.key == "down" and next(failures) < 4):
                    result = error(one.number, grpc.StatusCode.UNAVAILABLE, reason="BACKEND_UNAVAILABLE")
                else:
                    result = server.carry_out(one)
                yield pb.ExecuteResponse(results=[result])

    with ExecuteServer(failing) as server:
        async with aio.connect(server.address, watch=False) as store:
            with pytest.raises(neardict.UnavailableError, match="as the test wants it"):
                await store.set_value("b", "gone", 1, timeout=0.5)
            await store.set_many("a", {"down": 1, "up": 2, "other": 3})
            keys = [one.set_value.key for one in server.operations if one.set_value.key != "gone"]
            assert sorted(keys) == ["down"] * 5 + ["other", "up"]
            assert server.streams == 1


async def test_operations_under_way_end_with_closed_error_at_once_and_no_task_is_left() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        store = aio.connect(server.address, watch=False, timeout=DEADLINE)
        await store.set_value("other", "key", 0)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(store.get_value("stalled", str(number))) for number in range(50)
        ]
        tasks.append(asyncio.create_task(store.set_many("stalled", dict.fromkeys(map(str, range(3000)), 1))))
        await until(lambda: len(server.operations) > 1000)
        await store.close()
        *single, bulk = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in single} == {neardict.ClosedError}
        assert isinstance(bulk, neardict.BulkError)
        assert {type(one) for one in bulk.failures.values()} == {neardict.ClosedError}
        assert not engine_tasks()


async def test_a_store_can_be_closed_at_any_time(server: Served, domain: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in (server.address, f"127.0.0.1:{silent.getsockname()[1]}"):
            for turns in range(12):
                store = aio.connect(address, watch=False, timeout=DEADLINE)
                task = asyncio.create_task(store.set_value(domain, "key", turns))
                for _ in range(turns):
                    await asyncio.sleep(0)
                async with asyncio.timeout(DEADLINE / 2):
                    await store.close()
                    (outcome,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(outcome, int | neardict.ClosedError)
                assert not engine_tasks()


async def test_a_stream_whose_task_is_cancelled_before_it_begins_begins_again(
    server: Served, domain: str
) -> None:
    async with aio.connect(server.address, watch=False, timeout=math.inf) as store, asyncio.timeout(DEADLINE):
        task = asyncio.create_task(store.set_value(domain, "key", 1))
        await asyncio.sleep(0)
        (engine,) = engine_tasks()
        engine.cancel()
        await task
        assert await store.get_value(domain, "key") == 1


async def test_whoever_is_cancelled_in_closing_a_store_leaves_nobody_waiting() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server:
        store = aio.connect(server.address, watch=False, timeout=math.inf)
        waiting = asyncio.create_task(store.get_value("stalled", "key"))
        await until(stalling.begun.is_set)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(neardict.ClosedError):
            await waiting
        await asyncio.gather(closing, return_exceptions=True)
        await until(lambda: not engine_tasks())


async def test_whoever_is_cancelled_in_closing_a_store_leaves_nothing_open(
    server: Served, domain: str
) -> None:
    async def begin() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            begun.set()
            await asyncio.sleep(math.inf)
        told.set()
        await asyncio.sleep(math.inf)

    begun, told = asyncio.Event(), asyncio.Event()
    store = aio.connect(server.address)
    await store.dict(domain)
    store.spawn(begin())
    await begun.wait()
    closing = asyncio.create_task(store.close())
    await told.wait()
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    assert closing.cancelled()
    assert store._watching._relay is None
    for connection in (store._connections.calls, store._connections.stream):
        assert connection.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


def test_what_uses_a_store_while_the_loop_ends_is_done_or_refused(server: Served, domain: str) -> None:
    kept: list[AsyncGenerator[None, None]] = []
    outcomes: list[int | neardict.ClosedError] = []

    async def use(store: aio.Store) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            try:
                outcomes.append(await store.set_value(domain, "key", 2))
            except neardict.ClosedError as error:
                outcomes.append(error)

    async def leave() -> None:
        store = aio.connect(server.address, watch=False, timeout=math.inf)
        await store.set_value(domain, "key", 1)
        kept.append(use(store))
        await anext(kept[0])

    thread = threading.Thread(target=lambda: asyncio.run(leave()), daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert len(outcomes) == 1


def test_a_loop_that_ends_ends_what_its_stores_do(server: Served, domain: str) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def leave() -> None:
        loops.append(asyncio.get_running_loop())
        store = aio.connect(server.address, watch=False)
        await store.set_value(domain, "key", 1)
        tasks.extend(asyncio.create_task(store.get_value(domain, "key")) for _ in range(100))
        stores.append(store)
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[Any]] = []
    stores: list[aio.Store] = []
    asyncio.run(leave())
    assert not engine_tasks(loops[0])
    assert all(task.done() for task in tasks)


@pytest.mark.parametrize("watch", [False, True])
async def test_a_store_that_nobody_uses_any_more_ends_its_streams(
    server: Served, domain: str, *, watch: bool
) -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        store = aio.connect(server.address, watch=watch)
        mirror = await store.dict(domain)
        await mirror.set("key", 1)
        del store, mirror
    await until(lambda: gc.collect() is not None and not engine_tasks())
    await until(lambda: not [one for one in set(threading.enumerate()) - before if "watch" in one.name])


def test_loops_of_several_threads_have_stores_of_their_own(server: Served, domain: str) -> None:
    done: list[int] = []

    async def work(name: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # grpc#25364, of several loops
        async with aio.connect(server.address, watch=False) as store:
            await store.set_many(domain, {f"{name}.{number}": number for number in range(500)})
            found = await asyncio.gather(
                *(store.get_value(domain, f"{name}.{number}") for number in range(500))
            )
            done.append(sum(found))

    threads = [threading.Thread(target=lambda name=name: asyncio.run(work(name))) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert done == [sum(range(500))] * 4
