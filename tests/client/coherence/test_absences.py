"""Absent keys in a cache: asked for once, until something happens to them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict.moobius import CachedDict
from served import Served

Until = Callable[[Callable[[], Any]], Any]


def test_an_absent_key_is_asked_for_once(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False)
    assert "k" not in d
    for _ in range(3):
        assert "k" not in d
        assert d.get("k", 7) == 7
        assert d.pop("k", None) is None
        assert d.get_many(["k"]) == {}
        with pytest.raises(KeyError):
            d["k"]
    assert d.stats.misses == 1
    assert d.stats.absences == 1


def test_none_is_a_value(store: neardict.Store, elsewhere: neardict.Store, domain: str) -> None:
    elsewhere.set_value(domain, "k", None)
    d = store.dict(domain, load=False)
    assert "k" in d
    assert d["k"] is None
    assert d.get("k", 1) is None
    assert d.stats.absences == 0


def test_it_is_there_when_anybody_has_written_it(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain, load=False)
    assert [d.get(key) for key in ("theirs", "own", "by the store", "by another dict")] == [None] * 4
    d["own"] = 1
    store.set_value(domain, "by the store", 2)
    store.dict(domain, load=False)["by another dict"] = 3
    assert (d["own"], d["by the store"], d["by another dict"]) == (1, 2, 3)
    elsewhere.set_value(domain, "theirs", 4)
    assert until(lambda: d.get("theirs")) == 4


def test_a_deleted_key_is_absent_until_it_is_written_again(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    d = store.dict(domain, load=False)
    for n in range(3):
        d["k"] = n
        elsewhere.delete_key(domain, "k")
        until(lambda: "k" not in d)
        misses = d.stats.misses
        assert d.get("k") is None
        assert d.stats.misses == misses


def test_nothing_is_known_to_be_absent_while_the_stream_is_broken(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False)
    assert "k" not in d
    d.stale()
    assert ("k" in d, "k" in d) == (False, False)
    assert d.stats.misses == 3
    d.freshen()
    assert "k" not in d
    assert d.stats.misses == 3


def test_a_reset_forgets_what_was_absent(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False)
    assert "k" not in d
    d.reset()
    assert d.stats.absences == 0
    assert "k" not in d
    assert d.stats.misses == 2


def test_a_write_that_may_have_happened_makes_it_uncertain(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False)
    assert "k" not in d
    d.doubt("k")
    assert "k" not in d
    assert d.stats.misses == 2


def test_an_answer_from_before_a_write_makes_no_absence(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d = store.dict(domain, load=False)
    answered, go_on = threading.Event(), threading.Event()
    look_up = store.lookup

    def late(domain: str, key: str) -> Any:
        response = look_up(domain, key)
        if not answered.is_set():
            answered.set()
            assert go_on.wait(20)
        return response

    monkeypatch.setattr(store, "lookup", late)
    reader = threading.Thread(target=lambda: "k" in d)
    reader.start()
    assert answered.wait(20)
    elsewhere.set_value(domain, "k", 1)
    until(lambda: d.stats.changes == 1)
    go_on.set()
    reader.join(20)
    assert d["k"] == 1


@pytest.mark.parametrize("bound", [5, None])
def test_absences_are_bounded_too(
    store: neardict.Store, domain: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neardict._near._ABSENCES", 5)
    d = store.dict(domain, load=False, max_entries=bound)
    assert d.get_many(str(n) for n in range(20)) == {}
    assert d.stats.absences == 5
    misses = d.stats.misses
    assert "19" not in d
    assert d.stats.misses == misses
    assert "0" not in d
    assert d.stats.misses == misses + 1


def test_a_setdefault_that_comes_second_gives_what_the_first_stored(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = store.dict(domain, load=False)
    assert "k" not in d
    elsewhere.set_value(domain, "k", "theirs")
    assert d.setdefault("k", "ours") == "theirs"


def test_a_database_of_ones_own_is_asked_each_time() -> None:
    found: dict[str, Any] = {}

    class Database:
        def get_value(self, key: str) -> tuple[bool, Any]:
            return key in found, found.get(key)

    d = CachedDict(Database())
    assert "k" not in d
    found["k"] = 1  # behind our back
    assert d["k"] == 1


async def test_with_asyncio_it_can_be_told_without_waiting(
    aio_store: aio.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = await aio_store.dict(domain, load=False)
    with pytest.raises(neardict.NotHeldError):
        d.get("k")
    assert not await d.has("k")
    assert "k" not in d
    assert d.get("k") is None
    with pytest.raises(neardict.AbsentKeyError):
        await d.fetch("k")
    assert d.stats.misses == 1
    await d.set("k", 1)
    assert d["k"] == 1


def test_a_service_that_lost_all_is_asked_anew(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address) as store:
        d = store.dict("d", load=False)
        d["k"] = 1
        assert "absent" not in d
        own_server.kill()
        with Served(*own_server._args[3:-2], "--listen", own_server.address):
            until(lambda: d.fresh and d.stats.resets)
            assert "k" not in d
            store.set_value("d", "absent", 1)
            assert d["absent"] == 1
