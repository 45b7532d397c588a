"""Callbacks: told of every change, whoever makes it, and never in the way of the dict."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import ABSENT, UNKNOWN, aio
from neardict.moobius import CachedDict
from served import Served

Until = Callable[[Callable[[], Any]], Any]


class Told(list[tuple[str, Any, int]]):
    """What a callback was called with."""

    def __call__(self, key: str, value: Any, revision: int) -> None:
        self.append((key, value, revision))


@pytest.mark.parametrize("load", [True, False])
def test_each_change_is_told_once_whoever_makes_it(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, load: bool
) -> None:
    d = store.dict(domain, load=load)
    told = Told()
    d.on_change(told)
    expected: list[tuple[str, Any, int]] = [("theirs", 1, elsewhere.set_value(domain, "theirs", 1))]
    d["own"] = [2]
    until(lambda: len(told) == 2)
    expected.append(("own", [2], told[1][2]))
    expected.append(("by the store", 3, store.set_value(domain, "by the store", 3)))
    store.dict(domain)["by another dict"] = 4
    until(lambda: len(told) == 4)
    expected.append(("by another dict", 4, told[3][2]))
    elsewhere.delete_key(domain, "theirs")
    until(lambda: len(told) == 5)
    expected.append(("theirs", ABSENT, told[4][2]))
    assert told == expected
    revisions = [revision for _, _, revision in told]
    assert revisions == sorted(set(revisions))
    elsewhere.set_value(domain, "last", 0)
    until(lambda: told[-1][0] == "last")
    assert len(told) == 6


def test_the_value_is_the_object_that_the_dict_holds_and_shows_by_then(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    shown: list[bool] = []
    d.on_change(lambda key, value, revision: shown.append(dict.get(d, key) is value))
    for n in range(10):
        elsewhere.set_value(domain, str(n), {"n": n})
    until(lambda: len(shown) == 10)
    assert all(shown)


def test_an_expired_entry_is_told_as_absent(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    told = Told()
    d.on_change(told)
    elsewhere.set_value(domain, "k", 1, ttl=0.3)
    until(lambda: len(told) == 2)
    assert [value for _, value, _ in told] == [1, ABSENT]
    assert "k" not in d


def test_a_large_value_is_told_as_unknown_and_can_be_had_from_the_dict(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    told = Told()
    looked_up: list[int] = []
    d.on_change(told)
    d.on_change(lambda key, value, revision: looked_up.append(len(d[key])))
    elsewhere.set_value(domain, "k", "x" * 10_000)
    until(lambda: looked_up)
    assert [value for _, value, _ in told] == [UNKNOWN]
    assert looked_up == [10_000]
    d["k"] = "y" * 10_000
    until(lambda: len(told) == 2)
    assert told[1][1] in (UNKNOWN, d["k"])  # the stream may be faster than the acknowledgement


def test_what_a_callback_raises_is_logged_without_its_text_and_loses_no_change(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    d = store.dict(domain)
    told = Told()

    def fails(key: str, value: Any, revision: int) -> None:
        raise ValueError(f"of {value}")

    d.on_change(fails)
    d.on_change(told)
    elsewhere.set_many(domain, {"a": "secret", "b": "secret"})
    until(lambda: len(told) == 2)
    until(lambda: len(caplog.records) == 2)
    assert "raised ValueError at " in caplog.text
    assert "test_on_change.py" in caplog.text
    assert "secret" not in caplog.text
    assert d == {"a": "secret", "b": "secret"}


def test_a_callback_that_blocks_holds_up_neither_the_dict_nor_a_writer(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    told = Told()
    begun, go_on = threading.Event(), threading.Event()

    def slow(key: str, value: Any, revision: int) -> None:
        begun.set()
        assert go_on.wait(20)
        told(key, value, revision)

    d.on_change(slow)
    elsewhere.set_value(domain, "first", 0)
    assert begun.wait(20)
    for n in range(100):
        elsewhere.set_value(domain, "busy", n)
    d["own"] = 1
    until(lambda: d["busy"] == 99)
    assert d.fresh
    go_on.set()
    until(lambda: len(told) >= 3)
    # Of the many changes of one key, those that could not be told in time were passed over.
    assert [(key, value) for key, value, _ in told] == [("first", 0), ("busy", 99), ("own", 1)]


def test_no_call_begins_after_cancel(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    cancelled, told = Told(), Told()
    observer = d.on_change(cancelled)
    with d.on_change(cancelled):
        d.on_change(told)
    observer.cancel()
    observer.cancel()
    elsewhere.set_value(domain, "k", 1)
    until(lambda: told)
    assert cancelled == []


def test_a_callback_may_write_and_register_others(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    told = Told()

    def copies(key: str, value: Any, revision: int) -> None:
        if key == "k":
            d.on_change(told)
            d["copy"] = value

    d.on_change(copies)
    elsewhere.set_value(domain, "k", 1)
    until(lambda: told)
    assert [key for key, _, _ in told] == ["copy"]


def test_what_happened_while_the_service_was_away_is_told_too(tmp_path: Path, until: Until) -> None:
    with Served("--data", tmp_path) as served, neardict.connect(served.address) as store:
        d = store.dict("d")
        told = Told()
        resets: list[int] = []
        d.on_change(told, on_reset=lambda: resets.append(1))
        d["a"] = 1
        until(lambda: told)
        served.kill()
        until(lambda: not d.fresh)
        with (
            Served("--data", tmp_path, "--listen", served.address),
            neardict.connect(served.address) as other,
        ):
            other.set_value("d", "b", 2)
            until(lambda: len(told) == 2)
    assert [(key, value) for key, value, _ in told] == [("a", 1), ("b", 2)]
    assert resets == []


def test_a_reset_is_told_where_changes_may_be_missing(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address) as store:
        d = store.dict("d")
        told = Told()
        resets: list[bool] = []
        d.on_change(told, on_reset=lambda: resets.append(True))
        d["a"] = 1
        until(lambda: told)
        own_server.kill()
        with Served(*own_server._args[3:-2], "--listen", own_server.address):
            until(lambda: resets)
            store.set_value("d", "b", 2)
            until(lambda: len(told) == 2)
            assert d == {"b": 2}


def test_the_thread_of_callbacks_ends_with_the_store(own_server: Served, until: Until) -> None:
    others = set(threading.enumerate())

    def running() -> bool:
        new = set(threading.enumerate()) - others
        return any(thread.name == "neardict callbacks" for thread in new)

    store = neardict.connect(own_server.address)
    d = store.dict("d")
    closed = threading.Event()

    def closes(key: str, value: Any, revision: int) -> None:
        store.close()
        closed.set()

    d.on_change(closes)
    with neardict.connect(own_server.address) as other:
        other.set_value("d", "k", 1)
    assert closed.wait(20)
    until(lambda: not running())


def test_a_database_of_ones_own_tells_nothing() -> None:
    class Database:
        def get_value(self, key: str) -> tuple[bool, Any]:
            return False, ""

    with pytest.raises(neardict.CapabilityMissingError, match="needs a neardict service"):
        CachedDict(Database()).on_change(Told())


async def test_with_asyncio_callbacks_run_on_the_loop_between_the_turns_of_others(
    aio_store: aio.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = await aio_store.dict(domain)
    loop = asyncio.get_running_loop()
    told = Told()
    done = asyncio.Event()

    def callback(key: str, value: Any, revision: int) -> None:
        assert asyncio.get_running_loop() is loop
        assert d[key] is value
        told(key, value, revision)
        if key == "last":
            done.set()
        elif key == "fails":
            raise ValueError

    d.on_change(callback)
    await d.set("own", [1])
    await asyncio.to_thread(elsewhere.set_many, domain, {"fails": [2], "theirs": [3]})
    await asyncio.to_thread(elsewhere.set_value, domain, "last", [4])
    async with asyncio.timeout(20):
        await done.wait()
    assert [key for key, _, _ in told] in (
        ["own", "fails", "theirs", "last"],
        ["own", "theirs", "fails", "last"],
    )


async def test_a_coroutine_function_is_refused(aio_store: aio.Store, domain: str) -> None:
    async def callback(key: str, value: Any, revision: int) -> None: ...

    d = await aio_store.dict(domain)
    with pytest.raises(neardict.InvalidArgumentError, match="plain function"):
        d.on_change(callback)
