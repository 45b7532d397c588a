"""Operations of Execute that wait: deadlines, cancellation, and domains that do not wait for each other."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from executing import Execution, delete, failure, get, open_lanes, open_streams, put
from gated_backend import gated_server
from neardict_server.execution import Executions, executions
from wire import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

LATE = grpc.StatusCode.DEADLINE_EXCEEDED
CANCELLED = grpc.StatusCode.CANCELLED


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_has_not_begun_in_time_is_late_and_not_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.hold("d")
        first = await stream.send(put("first", timeout=1))
        await backend.has_begun("d", "first")
        short = await stream.send(
            put("late", timeout=20), delete("late too", timeout=20), get("late", timeout=20)
        )
        patient = await stream.send(put("patient"), put("in time", timeout=60_000))
        await stream.run(get("k", domain="other"))
        # By the clock that is asked, and no shorter: they were received before now.
        loop = asyncio.get_running_loop()
        over = loop.time() + 0.021
        await until(lambda: loop.time() > over)
        backend.release("d")
        assert [failure(result).code for result in await stream.of(short)] == [LATE] * 3
        assert all(result.HasField("set_value") for result in await stream.of([*first, *patient]))
        assert [key for domain, key in backend.begun if domain == "d"] == ["first", "patient", "in time"]
        assert await stream.end() is None


async def test_what_is_cancelled_before_it_begins_is_not_carried_out_and_gets_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.hold("d")
        begun = await stream.send(put("begun"))
        await backend.has_begun("d", "begun")
        one, two, three = await stream.send(put("one"), put("two"), get("one"))
        # What has begun goes on; what is unknown, or answered, is nothing.
        await stream.send(cancel=[one, three, *begun, 10**6])
        await stream.send(cancel=[one])
        await stream.run(get("k", domain="other"))
        backend.release("d")
        results = await stream.of([*begun, one, two, three])
        assert [result.WhichOneof("result") for result in results] == [
            "set_value",
            "error",
            "set_value",
            "error",
        ]
        assert [failure(results[at]).code for at in (1, 3)] == [CANCELLED] * 2
        assert [key for domain, key in backend.begun if domain == "d"] == ["begun", "two"]
        await stream.send(cancel=[one, two])
        assert await stream.end() is None


async def test_a_stalled_domain_does_not_hold_up_another_of_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.hold("stalled")
        stalled = await stream.send(*(put(f"k{number}", domain="stalled") for number in range(1024)))
        await backend.has_begun("stalled", "k0")
        for number in range(20):
            results = await stream.run(*(put(f"k{number}") for number in range(500)), get(f"k{number}"))
            assert results[-1].get_value.found
        assert not set(stalled) & set(stream.results)
        assert [key for domain, key in backend.begun if domain == "stalled"] == ["k0"]
        backend.release("stalled")
        assert all(result.HasField("set_value") for result in await stream.of(stalled))


async def test_another_stream_is_not_held_up_by_one_whose_domains_have_all_stalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        gated_server(monkeypatch) as (backend, channel),
        Execution(channel) as stuck,
        Execution(channel) as other,
    ):
        backend.hold("stalled")
        operations = [put(f"k{number}", domain="stalled") for number in range(executions.MAX_UNANSWERED)]
        stalled = await stuck.send(*operations)
        behind = await stuck.send(put("behind"))
        for _ in range(50):
            (result,) = await other.run(put("k"))
            assert result.HasField("set_value")
        # Full: what comes next waits, whatever its domain.
        assert ("d", "behind") not in backend.begun
        backend.release("stalled")
        await stuck.of([*stalled, *behind])
        assert await stuck.end() is None


async def test_a_client_that_leaves_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Executions] = []
    original = Executions.__init__

    def remember(self: Executions, *args: object, **more: object) -> None:
        original(self, *args, **more)  # type: ignore[arg-type]  # whatever it takes
        served.append(self)

    monkeypatch.setattr(Executions, "__init__", remember)
    async with gated_server(monkeypatch) as (backend, channel):
        before = asyncio.all_tasks()
        for domain in ("d", "e"):
            backend.hold(domain)
        stream = Execution(channel)
        await stream.send(put("begun"), put("waiting"), put("begun", domain="e"), get("k", domain="free"))
        await backend.has_begun("d", "begun")
        await backend.has_begun("e", "begun")
        stream.call.cancel()
        await until(lambda: not served[0]._open)
        await until(lambda: {("d", "begun"), ("e", "begun")} <= set(backend.cancelled))
        await until(lambda: not [task for task in asyncio.all_tasks() - before if "_work" in repr(task)])
        assert ("d", "waiting") not in backend.begun
        for domain in ("d", "e"):
            backend.release(domain)
        # Callbacks of what was cancelled may hold them for a few more turns of the loop.
        await until(lambda: not open_lanes())
        async with Execution(channel) as another:
            (result,) = await another.run(get("waiting"))
            assert not result.get_value.found


async def test_thousands_of_domains_leave_nothing_behind_on_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gated_server(monkeypatch) as (_, channel), Execution(channel) as stream:
        tasks = len(asyncio.all_tasks())
        for turn in range(10):
            results = await stream.run(*(get("k", domain=f"d{turn}.{number}") for number in range(1000)))
            assert all(result.HasField("get_value") for result in results)
        # Callbacks of what was cancelled may hold them for a few more turns of the loop.
        await until(lambda: not open_lanes())
        assert len(asyncio.all_tasks()) <= tasks + 5
        assert await stream.end() is None


async def test_one_request_of_very_many_operations_does_not_keep_others_from_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as many:
        backend.hold("d")
        await many.send(put("first"))
        await backend.has_begun("d", "first")
        # As many as fit into a message.
        numbers, request = many.number([get("k")] * 100_000)
        write = asyncio.ensure_future(many.call.write(request))
        await until(lambda: unanswered() > 0)
        async with Execution(channel) as other:
            for _ in range(20):
                (result,) = await other.run(get("k", domain="other"))
                assert result.HasField("get_value")
                # The bound holds within a request too.
                assert unanswered() <= executions.MAX_UNANSWERED
        backend.release("d")
        await write
        assert len(await many.of(numbers)) == 100_000
        assert await many.end() is None


def unanswered() -> int:
    """Returns how many operations the fullest stream of this test has."""
    return max((len(stream._unanswered) for stream in open_streams()), default=0)


async def test_a_client_that_floods_does_not_keep_another_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as many:
        flooding = True

        async def flood() -> None:
            while flooding:
                await many.send(*[put("flood", domain=f"d{number}") for number in range(8)] * 64)

        async def drain() -> None:
            while flooding:
                await many._more()
                many.results.clear()
                many.order.clear()

        tasks = [asyncio.create_task(flood()), asyncio.create_task(drain())]
        worst = 0
        async with Execution(channel) as other:
            await other.run(get("k", domain="other"))
            await until(lambda: len(backend.begun) > 20_000)
            for number in range(50):
                before = len(backend.begun)
                await other.run(get(f"{number}", domain="other"))
                worst = max(worst, len(backend.begun) - before)
        flooding = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # By the work that others get done while one waits, so that a slow machine fails nobody: less than
        # what one stream may have unanswered.
        assert worst < executions.MAX_UNANSWERED
