"""RequestIds and batches: each id writes once, within a batch, over batches and beside single calls."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from model import Clock
from neardict_server.backends import base, batches
from neardict_server.backends.base import Delete, Get, Set
from neardict_server.backends.memory import MemoryBackend
from neardict_server.backends.request_ids import RequestIds
from neardict_server.errors import BackendUnavailableError, ConditionFailedError, InvalidRequestError


class Gated(MemoryBackend):
    """A memory backend whose batches wait at a gate, for each operation; notes the keys of writes."""

    def __init__(self, clock: base.Clock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.written: list[str] = []
        self.broken = False

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        if self.broken:
            raise BackendUnavailableError("told to fail")
        return await batches.one_by_one(self, domain, operations)

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
        self.arrived.set()
        await self.gate.wait()
        written = await super().set_value(domain, key, value, ttl=ttl, condition=condition)
        self.written.append(key)
        return written


@pytest.fixture
def inner() -> Gated:
    return Gated(Clock())


@pytest.fixture
async def backend(inner: Gated) -> AsyncIterator[RequestIds]:
    backend = RequestIds(inner, Clock())
    yield backend
    inner.gate.set()
    await backend.close()


def sets(*keys: str) -> list[base.Operation]:
    """Returns writes whose ids are their keys."""
    return [Set(key, "1", request_id=key) for key in keys]


async def test_a_batch_that_is_repeated_writes_nothing(backend: RequestIds, inner: Gated) -> None:
    operations: list[base.Operation] = [*sets("a", "b"), Delete("a", request_id="gone")]
    first = await backend.execute("d", operations)
    assert [type(outcome) for outcome in first] == [base.Written, base.Written, base.Deleted]
    assert list(await backend.execute("d", operations)) == list(first)
    assert list(await backend.execute("d", [Get("c"), *operations]))[1:] == list(first)
    assert inner.written == ["a", "b"]
    assert not backend._running


async def test_an_id_twice_in_a_batch_writes_once(backend: RequestIds, inner: Gated) -> None:
    one, read, other, two, last = await backend.execute(
        "d", [*sets("a"), Get("a"), *sets("b", "a"), Set("a", "2", request_id="b")]
    )
    assert one == two
    assert isinstance(read, base.Lookup)
    assert read.entry is not None
    assert isinstance(other, base.Written)
    assert isinstance(last, InvalidRequestError)
    assert inner.written == ["a", "b"]


async def test_what_failed_in_a_batch_is_tried_again_by_the_next_with_its_id(
    backend: RequestIds, inner: Gated
) -> None:
    failed, made, again, same = await backend.execute(
        "d",
        [
            Set("a", "1", condition=5, request_id="id"),
            Set("b", "1"),
            # Also by another write, since there is no result to give.
            Set("b", "2", request_id="id"),
            Set("b", "2", request_id="id"),
        ],
    )
    assert isinstance(failed, ConditionFailedError)
    assert isinstance(made, base.Written)
    assert isinstance(again, base.Written)
    assert again == same
    assert inner.written == ["b", "b"]


async def test_a_batch_waits_for_the_write_with_one_of_its_ids_after_what_comes_before(
    backend: RequestIds, inner: Gated
) -> None:
    inner.gate.clear()
    first = asyncio.create_task(backend.set_value("d", "b", "1", request_id="b"))
    await inner.arrived.wait()
    batch = asyncio.create_task(backend.execute("d", [Delete("x", request_id="x"), *sets("b", "c")]))
    other = asyncio.create_task(backend.execute("d", [Set("x", "1", request_id="b"), Get("b")]))
    deleted = await backend.delete_key("d", "x", request_id="x")
    refused, _ = await other
    assert isinstance(refused, InvalidRequestError)
    assert not batch.done()
    inner.gate.set()
    outcomes = await batch
    assert outcomes[:2] == [deleted, await first]
    assert inner.written == ["b", "c"]


async def test_batches_with_the_same_ids_in_another_order_do_not_wait_for_each_other(
    backend: RequestIds, inner: Gated
) -> None:
    inner.gate.clear()
    one = asyncio.create_task(backend.execute("d", sets("a", "b", "c")))
    other = asyncio.create_task(backend.execute("d", sets("d", "c", "b", "a")))
    await inner.arrived.wait()
    inner.gate.set()
    a, b, c = await one
    assert (await other)[1:] == [c, b, a]
    assert sorted(inner.written) == ["a", "b", "c", "d"]


async def test_a_batch_goes_on_without_its_caller_who_finds_its_results(
    backend: RequestIds, inner: Gated
) -> None:
    inner.gate.clear()
    batch = asyncio.create_task(backend.execute("d", sets("a", "b")))
    await inner.arrived.wait()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    again = asyncio.create_task(backend.execute("d", sets("a", "b", "c")))
    single = asyncio.create_task(backend.set_value("d", "b", "1", request_id="b"))
    await asyncio.sleep(0)
    inner.gate.set()
    outcomes = await again
    assert all(isinstance(outcome, base.Written) for outcome in outcomes)
    assert await single == outcomes[1]
    assert inner.written == ["a", "b", "c"]


async def test_closing_waits_for_batches_whose_callers_have_gone(inner: Gated) -> None:
    backend = RequestIds(inner)
    inner.gate.clear()
    batch = asyncio.create_task(backend.execute("d", sets("a", "b")))
    await inner.arrived.wait()
    batch.cancel()
    closing = asyncio.create_task(backend.close())
    await asyncio.gather(batch, return_exceptions=True)
    assert not closing.done()
    inner.gate.set()
    await closing
    assert inner.written == ["a", "b"]


async def test_a_batch_that_fails_as_a_whole_fails_for_each_and_is_not_remembered(
    backend: RequestIds, inner: Gated
) -> None:
    inner.broken = True
    outcomes = await backend.execute("d", sets("a", "b"))
    assert [type(outcome) for outcome in outcomes] == [BackendUnavailableError] * 2
    inner.broken = False
    outcomes = await backend.execute("d", sets("a", "b"))
    assert all(isinstance(outcome, base.Written) for outcome in outcomes)


@pytest.mark.parametrize("seed", range(10))
async def test_of_the_writes_of_an_id_one_succeeds_however_they_come(
    backend: RequestIds, inner: Gated, seed: int
) -> None:
    chance = random.Random(seed)
    ids = [str(number) for number in range(8)]
    results: dict[str, set[base.Outcome]] = {identity: set() for identity in ids}

    async def call() -> None:
        keys = [chance.choice(ids) for _ in range(chance.randint(1, 6))]
        if len(keys) == 1:
            results[keys[0]].add(await backend.set_value("d", keys[0], "1", request_id=keys[0]))
            return
        for key, outcome in zip(keys, await backend.execute("d", sets(*keys)), strict=True):
            assert isinstance(outcome, base.Written)
            results[key].add(outcome)

    tasks = []
    for _ in range(60):
        tasks.append(asyncio.create_task(call()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        chance.choice([inner.gate.set, inner.gate.clear])()
        await asyncio.sleep(0)
    inner.gate.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in ended} <= {type(None), asyncio.CancelledError}
    assert all(len(found) <= 1 for found in results.values())
    assert len(inner.written) == len(set(inner.written))
    assert not backend._running
