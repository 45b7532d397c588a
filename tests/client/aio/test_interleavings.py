"""What may happen to an asyncio dict between a request and its reply, cancellation among it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

import neardict
from neardict import aio
from neardict._contents import MISSING

from ..gate import Gate, Hold


def held(cache: aio.CachedDict, key: str) -> Any:
    return dict.get(cache, key, MISSING)


async def reached(hold: Hold) -> None:
    await asyncio.to_thread(hold.wait)


def fail_after_applying(gate: Gate, key: str, method: str = "SetValue") -> None:
    gate.hold(method, key).fail(grpc.StatusCode.INTERNAL)


async def test_a_late_reply_neither_replaces_a_newer_write_nor_brings_a_deleted_key_back(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_many(domain, {"written": "old", "deleted": "old", "other": 1})
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "written") as one, gate.hold("GetValue", "deleted") as two:
        reading = [asyncio.create_task(d.fetch(key, "absent")) for key in ("written", "deleted")]
        await reached(one)
        await reached(two)
        await d.set("written", "new")
        await agated.delete_key(domain, "deleted")
        await agated.delete_key(domain, "other")
    assert [await task for task in reading] == ["new", "absent"]
    assert held(d, "written") == "new"
    assert held(d, "deleted") is MISSING


async def test_a_write_that_a_reset_has_overtaken_is_not_hidden_by_what_was_read_before_it(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_value(domain, "key", "old")
    writer, other = await agated.dict(domain), await agated.dict(domain)
    with gate.hold("SetValue", "key", at="request") as hold:
        writing = asyncio.create_task(writer.set("key", "new"))
        await reached(hold)
        for d in (writer, other):
            d.reset()
            await d.refresh()
            assert d["key"] == "old"
    await writing
    for d in (writer, other):
        assert held(d, "key") != "old"
        await asyncio.gather(*d._flights.values())  # nobody need ask
        assert d["key"] == "new"


async def test_concurrent_misses_share_one_request_and_survive_that_the_first_gives_up(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_value(domain, "key", "value")
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        tasks = [asyncio.create_task(d.fetch("key")) for _ in range(5)]
        await reached(hold)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await d.fetch("key")
    assert await asyncio.gather(*tasks[1:]) == ["value"] * 4
    assert gate.count("GetValue") == 1
    assert not d._flights


async def test_a_look_up_that_all_have_given_up_on_still_serves_the_next(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_value(domain, "key", "value")
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        task = asyncio.create_task(d.fetch("key"))
        await reached(hold)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await d.fetch("key") == "value"
    assert gate.count("GetValue") == 1


async def test_all_who_share_a_request_get_its_error_and_the_next_asks_anew(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        tasks = [asyncio.create_task(d.fetch("key")) for _ in range(3)]
        await reached(hold)
        hold.fail(grpc.StatusCode.INTERNAL)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [neardict.ServiceError] * 3
    assert await d.fetch("key", "absent") == "absent"


async def test_an_error_that_nobody_waits_for_any_more_is_not_reported_by_the_loop(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        task = asyncio.create_task(d.fetch("key"))
        await reached(hold)
        flight = d._flights["key"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.fail(grpc.StatusCode.INTERNAL)
        await asyncio.wait([flight])


async def test_a_look_up_after_a_deletion_does_not_join_one_from_before_it(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_value(domain, "key", "old")
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        early = asyncio.create_task(d.fetch("key", "absent"))
        await reached(hold)
        await agated.delete_key(domain, "key")
        assert await d.fetch("key", "absent") == "absent"
        assert not early.done()
    assert await early == "absent"


async def test_writes_that_are_acknowledged_in_the_opposite_order_leave_the_later_one(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    mirror, cache = await agated.dict(domain), await agated.dict(domain, load=False)
    with gate.hold("SetValue", "key") as hold:
        first = asyncio.create_task(cache.set("key", "first"))
        await reached(hold)
        await cache.set("key", "second")
        assert mirror["key"] == cache["key"] == "second"
    await first
    assert mirror["key"] == cache["key"] == "second"


async def test_a_bulk_write_that_is_acknowledged_late_does_not_bring_a_deleted_key_back(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d, other = await agated.dict(domain), await agated.dict(domain)
    await d.set("other", 1)
    with gate.hold("SetValue", "key") as hold:
        writing = asyncio.create_task(d.update({"key": "late", "early": 1}))
        await reached(hold)
        await agated.delete_key(domain, "key")
        await agated.delete_many(domain, ["other"])
    await writing
    assert d == other == {"early": 1}


async def test_a_listing_does_not_bring_back_what_was_deleted_or_replaced_meanwhile(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_many(domain, {f"{number}": "old" for number in range(6)})
    cache = await agated.dict(domain, load=False)
    with gate.hold("AllKeys", pages=3) as hold:
        loading = asyncio.create_task(agated.dict(domain))
        await reached(hold)
        for number in range(6):
            if number % 2:
                await cache.delete(f"{number}")
            else:
                await cache.set(f"{number}", "new")
        await cache.set("created", "new")
    assert await loading == {"0": "new", "2": "new", "4": "new", "created": "new"}


@pytest.mark.parametrize("pages", [0, 2, 4], ids=["first", "in the middle", "last"])
async def test_a_write_that_fails_during_a_listing_does_not_hide_its_key(
    gate: Gate, agated: aio.Store, domain: str, pages: int
) -> None:
    stored = {f"{number}": number for number in range(4)}
    await agated.set_many(domain, stored)
    d = await agated.dict(domain)
    with gate.hold("AllKeys", pages=pages) as hold:
        listing = asyncio.create_task(d.refresh())
        await reached(hold)
        for key in stored:
            gate.hold("SetValue", key, at="request").fail(grpc.StatusCode.INTERNAL)
            with pytest.raises(neardict.ServiceError):
                await d.set(key, "never stored")
    await listing
    assert d == stored


async def test_a_failed_write_leaves_its_key_in_doubt_and_no_other(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d, other = await agated.dict(domain), await agated.dict(domain)
    await d.update(key="old", kept=1)
    fail_after_applying(gate, "key")
    with pytest.raises(neardict.ServiceError):
        await agated.set_value(domain, "key", "new")
    for one in (d, other):
        assert one["kept"] == 1
        assert one.get("absent") is None
        with pytest.raises(neardict.NotHeldError, match=r"await d.fetch\(key\)"):
            one["key"]
        with pytest.raises(neardict.NotHeldError, match=r"await d.refresh\(\)"):
            len(one)
    assert await d.fetch("key") == "new"
    assert d == {"key": "new", "kept": 1}
    await other.refresh()
    assert other == d


async def test_a_look_up_or_acknowledgement_from_before_a_failed_write_does_not_stand_for_what_is_stored(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    await agated.set_value(domain, "key", 0)
    d = await agated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as read, gate.hold("SetValue", "key") as write:
        reading = asyncio.create_task(d.fetch("key"))
        await reached(read)
        writing = asyncio.create_task(agated.set_value(domain, "key", 1))
        await reached(write)
        fail_after_applying(gate, "key")
        with pytest.raises(neardict.ServiceError):
            await d.set("key", 2)
        write.release()
        await writing
    assert await reading == 2
    assert await d.fetch("key") == 2


async def test_pop_and_edit_give_way_to_whoever_came_first(
    gate: Gate, agated: aio.Store, astore: aio.Store, domain: str
) -> None:
    d = await agated.dict(domain)
    await d.set("key", "old")
    with gate.hold("DeleteKey", "key", at="request") as hold:
        popping = asyncio.create_task(d.pop("key"))
        await reached(hold)
        await astore.set_value(domain, "key", "new")
    assert await popping == "new"
    await d.set("list", [0])
    with gate.hold("SetValue", "list", at="request") as hold:
        editing = asyncio.create_task(d.edit("list", lambda value: value.append(2)))
        await reached(hold)
        await astore.set_value(domain, "list", [0, 1])
    assert await editing == d["list"] == [0, 1, 2]

    async def edit() -> None:
        async with d.edit("list") as value:
            value.append(4)
            await astore.set_value(domain, "list", [0, 1, 2, 3])

    with pytest.raises(neardict.ConflictError, match="edit it again"):
        await edit()
    assert await d.fetch("list") == [0, 1, 2, 3]
    with gate.hold("SetValue", "new", at="request") as hold:
        setting = asyncio.create_task(d.setdefault("new", "mine"))
        await reached(hold)
        await astore.set_value(domain, "new", "theirs")
    assert await setting == "theirs"


async def test_edits_of_many_tasks_lose_nothing(astore: aio.Store, domain: str) -> None:
    dicts = [await astore.dict(domain, load=load) for load in (True, False)]

    async def increment(number: int) -> None:
        for _ in range(25):
            await dicts[number % 2].edit("count", lambda count: count + 1, default=0)

    await asyncio.gather(*map(increment, range(8)))
    assert [await d.fetch("count") for d in dicts] == [200, 200]


async def edit_as_a_block(d: aio.CachedDict) -> None:
    async with d.edit("a") as value:
        value.append("edited")


ACTS: dict[str, Callable[[aio.CachedDict], Awaitable[Any]]] = {
    "fetch": lambda d: d.fetch("elsewhere"),
    "has": lambda d: d.has("none"),
    "get_many": lambda d: d.get_many(["a", "elsewhere", "none"]),
    "snapshot": lambda d: d.snapshot(),
    "refresh": lambda d: d.refresh(),
    "refresh a key": lambda d: d.refresh("a"),
    "set": lambda d: d.set("a", ["new"]),
    "save": lambda d: d.save("a"),
    "delete": lambda d: d.delete("a"),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("new", 1),
    "update": lambda d: d.update(a=["new"], b=["new"], new=1),
    "delete_many": lambda d: d.delete_many(["a", "b", "none"]),
    "clear": lambda d: d.clear(),
    "edit": lambda d: d.edit("a", lambda value: ["new"]),
    "edit as a block": edit_as_a_block,
    "set by the store": lambda d: d._store.set_value(d.domain, "a", ["new"]),
    "set many by the store": lambda d: d._store.set_many(d.domain, {"a": ["new"], "new": 1}),
    "delete many by the store": lambda d: d._store.delete_many(d.domain, ["a", "b"]),
}


@pytest.mark.parametrize("name", list(ACTS))
async def test_a_call_that_is_cancelled_wherever_it_waits_leaves_dicts_that_show_what_is_stored(
    gate: Gate, agated: aio.Store, astore: aio.Store, domain: str, name: str
) -> None:
    cache, mirror = await agated.dict(domain, load=False), await agated.dict(domain)

    async def begin() -> None:
        await astore.delete_many(domain, [key async for key in astore.all_keys(domain)])
        await astore.set_many(domain, {"a": ["old"], "b": ["old"], "elsewhere": 1})
        await asyncio.gather(cache.refresh(), mirror.refresh())
        cache._drop("elsewhere")

    await begin()
    before = len(gate.calls)
    await ACTS[name](cache)
    for number in range(len(gate.calls) - before):
        for at in ("request", "reply"):
            await begin()
            with gate.hold(at=at, skip=number) as hold:
                running = asyncio.ensure_future(ACTS[name](cache))
                await reached(hold)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                await asyncio.to_thread(hold.finish)
            # Others of a bulk operation may be on their way still; this one comes after them.
            await agated.delete_key(domain, "fence")
            stored = {entry.key: entry.value async for entry in astore.all_entries(domain)}
            for one in (cache, mirror):
                assert await one.get_many(stored) == stored
                assert await one.snapshot() == stored
                assert not one._flights


async def test_a_call_that_is_cancelled_before_it_began_does_nothing(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    d = await agated.dict(domain)
    before = len(gate.calls)
    for act in ("set", "fetch", "refresh", "update", "clear"):
        task = asyncio.ensure_future(ACTS[act](d))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(gate.calls) == before
    assert d == {}


@pytest.mark.parametrize("method", ["GetValue", "SetValue", "AllKeys", "get_many", "update"])
async def test_calls_that_are_under_way_when_the_store_is_closed_end_with_closed_error(
    gate: Gate, agated: aio.Store, domain: str, method: str
) -> None:
    d = await agated.dict(domain, load=False)
    await d.set("a", 1)
    many = {f"{number}": number for number in range(300)}
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "GetValue": lambda: d.fetch("key"),
        "SetValue": lambda: d.set("key", 1),
        "AllKeys": d.snapshot,
        "get_many": lambda: d.get_many(many),
        "update": lambda: d.update(many),
    }
    with gate.hold({"get_many": "GetValue", "update": "SetValue"}.get(method, method)) as hold:
        running = asyncio.ensure_future(acts[method]())
        await reached(hold)
        await agated.close()
        with pytest.raises((neardict.ClosedError, neardict.BulkError)) as caught:
            await running
    if isinstance(caught.value, neardict.BulkError):
        assert {type(error) for error in caught.value.failures.values()} == {neardict.ClosedError}
    assert d["a"] == 1
    for act in acts.values():
        with pytest.raises((neardict.ClosedError, neardict.BulkError), match="connect again"):
            await act()
    await agated.close()


async def test_cancellation_wins_over_a_store_that_is_closed_at_the_same_time(
    gate: Gate, agated: aio.Store, domain: str
) -> None:
    with gate.hold("GetValue", "key") as hold:
        running = asyncio.ensure_future(agated.get_value(domain, "key"))
        await reached(hold)
        running.cancel()
        await agated.close()
        with pytest.raises(asyncio.CancelledError):
            await running
