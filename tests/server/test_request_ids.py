"""RequestIds: of the writes with one id at most one succeeds, whatever becomes of their callers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from model import Clock
from neardict_server.backends import base, request_ids
from neardict_server.backends.memory import MemoryBackend
from neardict_server.backends.request_ids import WINDOW, RequestIds
from neardict_server.errors import BackendUnavailableError, InvalidRequestError


class Gated(MemoryBackend):
    """A memory backend whose writes wait at a gate, and fail if they are told to."""

    def __init__(self, clock: base.Clock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.failures = 0
        self.begun = 0
        self.succeeded = 0
        self.closings = 0

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: base.Ttl = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        self.begun += 1
        self.arrived.set()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise BackendUnavailableError("told to fail")
        written = await super().set_value(domain, key, value, ttl=ttl, condition=condition)
        self.succeeded += 1
        return written

    async def close(self) -> None:
        self.closings += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inner(clock: Clock) -> Gated:
    return Gated(clock)


@pytest.fixture
async def backend(inner: Gated, clock: Clock) -> AsyncIterator[RequestIds]:
    backend = RequestIds(inner, clock)
    yield backend
    inner.gate.set()
    await backend.close()


async def begin(backend: RequestIds, inner: Gated, request_id: str = "id") -> asyncio.Task[base.Written]:
    """Returns a write that waits at the gate."""
    inner.gate.clear()
    inner.arrived.clear()
    task = asyncio.create_task(backend.set_value("d", "k", "1", request_id=request_id))
    await inner.arrived.wait()
    return task


async def test_a_caller_who_gives_up_finds_the_result_when_he_tries_again(
    backend: RequestIds, inner: Gated
) -> None:
    first = await begin(backend, inner)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    again = asyncio.create_task(backend.set_value("d", "k", "1", request_id="id"))
    await asyncio.sleep(0)
    assert inner.begun == 1
    inner.gate.set()
    written = await again
    assert (inner.begun, inner.succeeded) == (1, 1)
    assert await backend.set_value("d", "k", "1", request_id="id") == written
    assert inner.begun == 1


async def test_a_write_whose_callers_have_all_gone_takes_effect_once(
    backend: RequestIds, inner: Gated
) -> None:
    callers = [await begin(backend, inner)]
    callers += [asyncio.create_task(backend.set_value("d", "k", "1", request_id="id")) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    inner.gate.set()
    await asyncio.sleep(0)
    written = await backend.set_value("d", "k", "1", request_id="id")
    assert (inner.begun, inner.succeeded) == (1, 1)
    entry = (await backend.get_value("d", "k")).entry
    assert entry is not None
    assert entry.revision == written.revision


async def test_repeats_while_it_runs_get_its_result(backend: RequestIds, inner: Gated) -> None:
    first = await begin(backend, inner)
    repeats = [asyncio.create_task(backend.set_value("d", "k", "1", request_id="id")) for _ in range(10)]
    await asyncio.sleep(0)
    inner.gate.set()
    assert len({await task for task in (first, *repeats)}) == 1
    assert inner.begun == 1


async def test_repeats_while_it_runs_get_its_failure_and_the_next_tries_again(
    backend: RequestIds, inner: Gated
) -> None:
    inner.failures = 1
    first = await begin(backend, inner)
    repeats = [asyncio.create_task(backend.set_value("d", "k", "1", request_id="id")) for _ in range(3)]
    await asyncio.sleep(0)
    inner.gate.set()
    results = await asyncio.gather(first, *repeats, return_exceptions=True)
    assert all(isinstance(result, BackendUnavailableError) for result in results)
    assert (inner.begun, inner.succeeded) == (1, 0)
    await backend.set_value("d", "k", "1", request_id="id")
    assert (inner.begun, inner.succeeded) == (2, 1)


async def test_a_failure_that_nobody_waits_for_is_no_warning(backend: RequestIds, inner: Gated) -> None:
    inner.failures = 1
    first = await begin(backend, inner)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    inner.gate.set()
    while inner.failures:
        await asyncio.sleep(0)


async def test_another_write_with_the_id_is_refused_while_the_first_runs_and_after(
    backend: RequestIds, inner: Gated
) -> None:
    first = await begin(backend, inner)
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as caught:
            await backend.set_value("d", "another", "1", request_id="id")
        assert caught.value.reason == "REQUEST_ID_REUSED"
        with pytest.raises(InvalidRequestError):
            await backend.delete_key("d", "k", request_id="id")
        inner.gate.set()
        await first
    assert inner.begun == 1


async def test_other_ids_and_domains_do_not_wait_for_each_other(backend: RequestIds, inner: Gated) -> None:
    tasks = [await begin(backend, inner, request_id=f"id-{number}") for number in range(3)]
    tasks.append(asyncio.create_task(backend.set_value("another", "k", "1", request_id="id-0")))
    tasks.append(asyncio.create_task(backend.set_value("d", "k", "1")))
    while inner.begun < len(tasks):
        await asyncio.sleep(0)
    inner.gate.set()
    await asyncio.gather(*tasks)
    assert inner.succeeded == len(tasks)


async def test_a_write_without_an_id_is_never_remembered(backend: RequestIds, inner: Gated) -> None:
    await backend.set_value("d", "k", "1")
    await backend.set_value("d", "k", "1")
    assert inner.succeeded == 2


async def test_an_id_is_remembered_for_the_window_and_then_forgotten(
    backend: RequestIds, inner: Gated, clock: Clock
) -> None:
    written = await backend.set_value("d", "k", "1", request_id="id")
    clock.now += WINDOW - 1
    assert await backend.set_value("d", "k", "1", request_id="id") == written
    clock.now += 1
    again = await backend.set_value("d", "k", "2", request_id="id")
    assert again.revision > written.revision
    assert inner.succeeded == 2


async def test_the_window_begins_when_the_write_has_ended(
    backend: RequestIds, inner: Gated, clock: Clock
) -> None:
    first = await begin(backend, inner)
    clock.now += 10 * WINDOW
    inner.gate.set()
    written = await first
    clock.now += WINDOW - 1
    assert await backend.set_value("d", "k", "1", request_id="id") == written


async def test_a_clock_that_goes_back_makes_nothing_forgotten(
    backend: RequestIds, inner: Gated, clock: Clock
) -> None:
    written = await backend.set_value("d", "k", "1", request_id="id")
    clock.now -= 10 * WINDOW
    await backend.set_value("d", "k", "2", request_id="another")
    assert await backend.set_value("d", "k", "1", request_id="id") == written


async def test_of_too_many_ids_the_oldest_are_forgotten(
    backend: RequestIds, inner: Gated, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_ids, "MAX_REMEMBERED", 100)
    for number in range(150):
        await backend.set_value("d", "k", "1", request_id=str(number))
    assert len(backend._done) <= 100
    for number in range(60, 150):
        await backend.set_value("d", "k", "1", request_id=str(number))
    assert inner.succeeded == 150
    await backend.set_value("d", "k", "1", request_id="0")
    assert inner.succeeded == 151


async def test_of_ids_of_too_many_bytes_the_oldest_are_forgotten(
    backend: RequestIds, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_ids, "MAX_REMEMBERED_BYTES", 100_000)
    for number in range(500):
        await backend.set_value("d", f"{number:01000d}", "1", request_id=str(number))
    assert 50 < len(backend._done) <= 100
    clock.now += WINDOW
    await backend.set_value("d", "k", "1", request_id="last")
    assert len(backend._done) == 1
    assert backend._bytes < 1000


async def test_what_is_remembered_shrinks_with_time(backend: RequestIds, clock: Clock) -> None:
    for number in range(50):
        await backend.set_value("d", "k", "1", request_id=str(number))
    clock.now += WINDOW
    await backend.set_value("d", "k", "1", request_id="last")
    assert len(backend._done) == 1
    assert not backend._running


async def test_closing_waits_for_writes_whose_callers_have_gone(inner: Gated, clock: Clock) -> None:
    backend = RequestIds(inner, clock)
    first = await begin(backend, inner)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    assert inner.closings == 0
    inner.gate.set()
    await closing
    assert inner.closings == 1
    assert inner.succeeded == 1
