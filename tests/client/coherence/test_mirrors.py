"""Mirrors of a service that lost what it had, or what they missed: nothing has to be called."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict.v1 import storage_pb2 as pb
from served import Served
from shown import shown

Until = Callable[[Callable[[], Any]], Any]

# What is too large to come with its change.
LARGE = "x" * 10_000


async def until_true(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def again(own_server: Served) -> Served:
    """Returns the service as it begins anew, with nothing, at the same address."""
    return Served(*own_server._args[3:-2], "--listen", own_server.address)


@pytest.fixture
def other(own_server: Served) -> Iterator[neardict.Store]:
    with neardict.connect(own_server.address, watch=False) as store:
        yield store


def test_a_mirror_reads_the_domain_anew_by_itself(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address) as store:
        d = store.dict("d")
        resets: list[None] = []
        d.on_change(lambda *change: None, on_reset=lambda: resets.append(None))
        d.update({f"old {number}": number for number in range(20)})
        until(lambda: d.fresh)
        own_server.kill()
        until(lambda: not shown(d))
        with again(own_server), neardict.connect(own_server.address, watch=False) as other:
            other.set_value("d", "new", 2)
            until(lambda: shown(d) == {"new": 2} and d.fresh)
            until(lambda: resets)


async def test_with_asyncio_too(own_server: Served) -> None:
    async with aio.connect(own_server.address) as store:
        d = await store.dict("d")
        await d.set("old", 1)
        own_server.kill()
        await until_true(lambda: not shown(d))
        with again(own_server):
            await store.set_value("d", "new", 2)
            await until_true(lambda: shown(d) == {"new": 2} and d.fresh)
            assert d["new"] == 2
            assert d.get("old") is None


async def test_with_asyncio_a_dict_of_a_service_that_is_about_to_start_can_be_read_at_once(
    own_server: Served,
) -> None:
    own_server.kill()
    async with aio.connect(own_server.address, timeout=30) as store:
        making = asyncio.create_task(store.dict("d"))
        await asyncio.sleep(0)
        served = again(own_server)
        await asyncio.to_thread(served.start)
        try:
            d = await making
            assert len(d) == 0
            assert "k" not in d
            assert d.fresh
        finally:
            served.__exit__()


def reset(session: Any, domain: str) -> None:
    session.received(pb.WatchResponse(reset=pb.Reset(domain=domain, reason=pb.Reset.REASON_SLOW_CONSUMER)))


def test_a_reset_of_a_stream_that_lives_is_followed_by_a_reading(
    store: neardict.Store, domain: str, until: Until
) -> None:
    for consistency in ("bounded", "linearizable"):
        d = store.dict(domain, consistency=consistency)
        d["k"] = {"points": 3}
        until(lambda d=d: d.fresh and dict.__contains__(d, "k"))  # type: ignore[misc]  # mypy#15459
        reset(store.changes.session, domain)
        until(lambda d=d: shown(d) == {"k": {"points": 3}} and d.fresh)  # type: ignore[misc]


def test_a_large_value_that_another_wrote_is_read_without_being_asked_for(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    elsewhere.set_value(domain, "k", LARGE)
    until(lambda: shown(d) == {"k": LARGE})


async def test_with_asyncio_it_is_read_too(
    aio_store: aio.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = await aio_store.dict(domain)
    elsewhere.set_value(domain, "k", LARGE)
    await until_true(lambda: shown(d) == {"k": LARGE})


def test_what_a_failed_write_left_unknown_is_read_by_itself(
    store: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    d.update({f"k{number}": number for number in range(300)})
    until(lambda: d.fresh)
    for count in (1, 300):  # a few are looked up, many are listed
        for number in range(count):
            d.doubt(f"k{number}")
        until(lambda: len(shown(d)) == 300)


async def test_with_asyncio_a_failed_write_needs_no_refresh(aio_store: aio.Store, domain: str) -> None:
    d = await aio_store.dict(domain)
    await d.update({f"k{number}": number for number in range(300)})
    for count in (1, 300):
        for number in range(count):
            d.doubt(f"k{number}")
        await until_true(lambda: len(shown(d)) == 300)
        assert len(d) == 300


def test_a_reading_that_fails_is_tried_again(
    store: neardict.Store, domain: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = store.dict(domain)
    d["k"] = 1
    until(lambda: d.fresh)
    failures = iter([neardict.UnavailableError("down"), ValueError("a bug"), neardict.DataLossError("bad")])
    pages = store.pages

    def failing(*args: Any, **kwargs: Any) -> Any:
        if (error := next(failures, None)) is not None:
            raise error
        return pages(*args, **kwargs)

    monkeypatch.setattr(store, "pages", failing)
    reset(store.changes.session, domain)
    until(lambda: shown(d) == {"k": 1})


def test_a_mirror_that_nobody_holds_is_not_kept_by_its_reading(
    store: neardict.Store, domain: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicts = [store.dict(domain)]
    dicts[0]["k"] = 1
    until(lambda: dicts[0].fresh)
    attempts = iter(range(1000))
    begun: list[int] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        begun.append(next(attempts))
        raise neardict.UnavailableError("down")

    monkeypatch.setattr(store, "pages", failing)
    reset(store.changes.session, domain)
    until(lambda: begun)
    heard = store.changes.heard
    dicts.clear()
    until(lambda: not heard(domain))


def test_an_entry_that_cannot_be_read_is_left_out_of_the_mirror(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    d = store.dict(domain)
    elsewhere.set_value(domain, "good", 1)
    marked = '{"_moobius_type": "test.Refusing", "_moobius_val": {"x": "' + LARGE + '"}}'

    def refuse(plain: Any) -> Any:
        raise ValueError

    neardict.register(Refusing, name="test.Refusing", encode=lambda one: {}, decode=refuse)
    with caplog.at_level(logging.WARNING):
        elsewhere.write(
            pb.SetValueRequest(domain=domain, key="bad", value=pb.Value(json=marked), request_id="1")
        )
        until(lambda: "is left out" in caplog.text)
    until(lambda: d._is_whole())
    assert shown(d) == {"good": 1}
    with pytest.raises(neardict.UndecodableValueError):
        d["bad"]


def test_what_is_lost_while_the_mirror_is_read_is_read_too(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    until(lambda: d.fresh)
    for number in range(30):
        # Each change comes at some moment of the reading of those before it.
        elsewhere.set_value(domain, f"k{number % 7}", f"{LARGE}{number}")
    stored = {entry.key: entry.value for entry in elsewhere.all_entries(domain)}
    until(lambda: shown(d) == stored and d.fresh)


def test_a_loss_that_was_mended_before_its_turn_does_not_hide_the_next_one(
    store: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain)
    d["k"] = 1
    until(lambda: d.fresh)
    for _ in range(5):
        reset(store.changes.session, domain)
        assert d.copy() == {"k": 1}, "read by whoever asked"
    reset(store.changes.session, domain)
    until(lambda: shown(d) == {"k": 1} and d.fresh)


async def test_with_asyncio_it_does_not_either(aio_store: aio.Store, domain: str) -> None:
    d = await aio_store.dict(domain)
    await d.set("k", 1)
    for _ in range(5):
        reset(aio_store.changes.session, domain)
        relay = aio_store._watching._relay
        assert relay is not None
        relay.give_up()  # the stream is lost before the reading has had its turn
        await until_true(lambda: not d.fresh)
        await until_true(lambda: d.fresh)
    assert shown(d) == {"k": 1}


def test_many_large_changes_are_not_a_reason_to_list_the_domain(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere.set_many(domain, {f"k{number}": number for number in range(1000)})
    d = store.dict(domain)
    until(lambda: d.fresh)
    listings: list[None] = []
    pages = store.pages

    def counting(*args: Any, **kwargs: Any) -> Any:
        listings.append(None)
        return pages(*args, **kwargs)

    monkeypatch.setattr(store, "pages", counting)
    elsewhere.set_many(domain, {f"k{number}": LARGE for number in range(200)})
    until(lambda: sum(value == LARGE for value in shown(d).values()) == 200 and d.fresh)
    assert not listings


def test_a_reading_that_fails_is_not_made_again_by_each_change(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d = store.dict(domain)
    until(lambda: d.fresh)
    asked: list[str] = []
    lookup, lookup_many = store.lookup, store.lookup_many
    down = [True]

    def failing(domain: str, key: str, **kwargs: Any) -> Any:
        asked.append(key)
        if down[0]:
            raise neardict.UnavailableError("down")
        return lookup(domain, key, **kwargs)

    def failing_too(domain: str, keys: Any, **kwargs: Any) -> Any:
        asked.extend(keys)
        if down[0]:
            raise neardict.UnavailableError("down")
        return lookup_many(domain, keys, **kwargs)

    monkeypatch.setattr(store, "lookup", failing)
    monkeypatch.setattr(store, "lookup_many", failing_too)
    changes = [f"{LARGE}{number}" for number in range(200)]
    for value in changes:
        elsewhere.set_value(domain, "k", value)
    until(lambda: asked)
    elsewhere.set_value(domain, "last", 1)
    until(lambda: "last" in shown(d))  # so all changes have come
    assert len(asked) < len(changes) / 4
    down[0] = False
    until(lambda: shown(d) == {"k": changes[-1], "last": 1})


def test_a_decoder_that_ends_threads_does_not_end_the_reading_of_others(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    def leave(plain: Any) -> Any:
        raise SystemExit

    class Leaving:
        pass

    neardict.register(Leaving, name="test.Leaving", encode=lambda one: {}, decode=leave)
    one, other = store.dict(f"{domain}.bad"), store.dict(domain)
    other["k"] = 1
    until(lambda: one.fresh and other.fresh)
    marked = '{"_moobius_type": "test.Leaving", "_moobius_val": {"x": "' + LARGE + '"}}'
    request = pb.SetValueRequest(domain=one.domain, key="bad", value=pb.Value(json=marked), request_id="2")
    elsewhere.write(request)
    elsewhere.set_value(domain, "k", LARGE)
    until(lambda: shown(other) == {"k": LARGE})


def test_what_was_mended_while_it_was_looked_up_is_not_left_out(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d = store.dict(domain)
    until(lambda: d.fresh)
    lookup = store.lookup

    def damaged(domain: str, key: str, **kwargs: Any) -> Any:
        # The answer is about what was stored before.
        monkeypatch.setattr(store, "lookup", lookup)
        elsewhere.set_value(domain, "k", "mended")
        until(lambda: dict.__contains__(d, "k"))
        raise neardict.DataLossError("damaged")

    monkeypatch.setattr(store, "lookup", damaged)
    elsewhere.set_value(domain, "k", LARGE)
    until(lambda: store.lookup == lookup)
    until(lambda: shown(d) == {"k": "mended"} and d.fresh)
    elsewhere.set_value(domain, "fence", 1)
    until(lambda: "fence" in shown(d))
    assert shown(d) == {"k": "mended", "fence": 1}


class Refusing:
    pass
