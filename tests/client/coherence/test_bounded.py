"""Caches with max_entries: how much they hold, and that what they let go is not wrong afterwards."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import aio
from shown import shown

Until = Callable[[Callable[[], Any]], Any]


def revisions(d: Any) -> set[str]:
    return set(d._versions.held)


@pytest.mark.parametrize("bound", [1, 3, 10])
def test_never_holds_more_than_max_entries_however_it_is_filled(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, bound: int
) -> None:
    elsewhere.set_many(domain, {str(n): n for n in range(30)})
    d = store.dict(domain, load=False, max_entries=bound)
    fills: list[Callable[[], object]] = [
        lambda: [d[str(n)] for n in range(30)],
        lambda: d.get_many([str(n) for n in range(30)]),
        lambda: d.update({f"new {n}": n for n in range(30)}),
        d.snapshot,
        d.refresh,
        lambda: [d.setdefault(f"default {n}", n) for n in range(30)],
        lambda: elsewhere.set_many(domain, {str(n): -n for n in range(30)}),
    ]
    for fill in fills:
        fill()
        assert len(shown(d)) == bound
        assert set(shown(d)) == revisions(d)
    assert d.stats.entries == bound
    assert d.stats.evictions > 0
    last = elsewhere.set_value(domain, "last", 1)
    until(lambda: store.changes.session is not None and d["last"] == 1 and last)
    assert len(shown(d)) == bound


def test_what_came_first_makes_room(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False, max_entries=3)
    d.update(a=1, b=2, c=3)
    d["a"] = 10  # known already: it keeps its turn
    d["d"] = 4
    assert shown(d) == {"b": 2, "c": 3, "d": 4}
    assert d["a"] == 10
    assert shown(d) == {"a": 10, "c": 3, "d": 4}


def test_a_deleted_entry_makes_room_for_another(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False, max_entries=2)
    d.update(a=1, b=2)
    del d["b"]
    d["c"] = 3
    assert shown(d) == {"a": 1, "c": 3}
    assert d.stats.evictions == 0


def test_every_method_answers_for_the_whole_domain_all_the_same(store: neardict.Store, domain: str) -> None:
    whole = {str(n): [n] for n in range(50)}
    d = store.dict(domain, load=False, max_entries=5)
    d.update(whole)
    assert d == whole
    assert dict(d.items()) == whole
    assert d | {"x": 1} == whole | {"x": 1}
    assert (len(d), set(d), d.get_many(whole)) == (50, set(whole), whole)
    assert sorted(d.values()) == sorted(whole.values())
    assert list(d.keys()) == list(d.snapshot())


def test_a_listing_takes_no_place_from_what_was_looked_up(store: neardict.Store, domain: str) -> None:
    store.set_many(domain, {str(n): n for n in range(20)})
    d = store.dict(domain, load=False, max_entries=3)
    assert [d["7"], d["3"]] == [7, 3]
    assert len(d.snapshot()) == 20
    assert {"7", "3"} < set(shown(d))
    assert len(shown(d)) == 3


def test_a_change_of_an_entry_that_made_room_is_not_held_but_seen(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain, load=False, max_entries=1)
    d["a"] = 1
    d["b"] = 2
    elsewhere.set_value(domain, "a", 10)
    elsewhere.set_value(domain, "b", 20)
    until(lambda: shown(d) == {"b": 20})
    assert d["a"] == 10
    assert shown(d) == {"a": 10}


def test_an_answer_from_before_an_entry_made_room_does_not_bring_it_back_older(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.set_value(domain, "a", "old")
    d = store.dict(domain, load=False, max_entries=1)
    answered, go_on = threading.Event(), threading.Event()
    look_up = store.lookup

    def late(domain: str, key: str) -> Any:
        response = look_up(domain, key)
        if not answered.is_set():
            answered.set()
            assert go_on.wait(20)
        return response

    monkeypatch.setattr(store, "lookup", late)
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.append(d["a"]))
    reader.start()
    assert answered.wait(20)
    d["a"] = "new"
    d["b"] = "in its place"
    go_on.set()
    reader.join(20)
    assert seen == ["new"]
    assert d["a"] == "new"


def test_the_bound_holds_while_the_contents_are_set_aside(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False, max_entries=3)
    d.update({str(n): n for n in range(5)})
    d.stale()
    assert shown(d) == {}
    assert [d[str(n)] for n in range(5)] == list(range(5))
    assert d.stats.entries == 3
    d.freshen()
    assert shown(d) == {"2": 2, "3": 3, "4": 4}


@pytest.mark.parametrize("bound", [0, -1, 1.5, "3"])
def test_a_bound_that_is_none_is_refused(store: neardict.Store, domain: str, bound: Any) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="max_entries must be"):
        store.dict(domain, load=False, max_entries=bound)


async def test_a_mirror_has_no_bound(store: neardict.Store, aio_store: aio.Store, domain: str) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="with max_entries give load=False"):
        store.dict(domain, max_entries=3)
    with pytest.raises(neardict.InvalidArgumentError, match="with max_entries give load=False"):
        await aio_store.dict(domain, max_entries=3)


async def test_with_asyncio_the_bound_holds_too(aio_store: aio.Store, domain: str) -> None:
    d = await aio_store.dict(domain, load=False, max_entries=3)
    await d.update({str(n): n for n in range(20)})
    assert len(shown(d)) == 3
    assert [await d.fetch(str(n)) for n in range(20)] == list(range(20))
    assert shown(d) == {"17": 17, "18": 18, "19": 19}
    assert revisions(d) == {"17", "18", "19"}
    assert await d.snapshot() == {str(n): n for n in range(20)}
    assert len(shown(d)) == 3


def test_many_threads_in_a_small_cache_never_see_a_value_go_back(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    keys = [str(n) for n in range(8)]
    elsewhere.set_many(domain, dict.fromkeys(keys, 0))
    d = store.dict(domain, load=False, max_entries=3)
    over = threading.Event()
    wrong: list[str] = []

    def read(seed: int) -> None:
        choice = random.Random(seed)
        last = dict.fromkeys(keys, 0)
        while not over.is_set():
            key = choice.choice(keys)
            found = d[key] if choice.random() < 0.9 else d.snapshot()[key]
            if found < last[key]:
                wrong.append(f"{key} went from {last[key]} to {found}")
            last[key] = found
            if len(d._versions.held) > 3:
                wrong.append("more than 3 entries")

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    choice = random.Random(4)
    for n in range(1, 300):
        (elsewhere if n % 2 else store).set_value(domain, choice.choice(keys), n)
    over.set()
    for reader in readers:
        reader.join(20)
    assert wrong == []
    assert set(shown(d)) == revisions(d)
    assert d.stats.evictions > 0
