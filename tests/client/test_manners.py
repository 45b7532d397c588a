"""In small things a near dict does as dict does, or says why it does not."""

import collections
import copy
import dataclasses
import functools
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict.moobius import CachedDict as MoobiusDict
from neardict.moobius import RemoteDatabase
from neardict.moobius.null import NullDatabase
from served import Served

from .both import CLIENTS, Way, bounded_ways, every_way, wait

Act = Callable[[], Any]
NOT_STR: list[Any] = [1, 1.5, None, True, b"k", ("a",), frozenset()]


@every_way
async def test_a_key_error_has_the_key_itself(server: Served, domain: str, way: Way) -> None:
    async with way.dict(server.address, domain) as d:
        acts: list[Callable[[Any], Any]] = [
            d.fetch,
            d.pop,
            d.delete,
            lambda key: d.touch(key, 1),
            d.save,
            lambda key: d.edit(key, len),
        ]
        if way.load or way.client == "threads":
            acts.append(d.__getitem__)
        for key in ("k'\n", "", 1, None, ("a", 1)):
            for act in acts:
                with pytest.raises(KeyError) as caught:
                    await wait(act(key))
                assert caught.value.args == (key,)
                assert type(caught.value.args[0]) is type(key)
                assert (str(caught.value), repr(caught.value)) == (repr(key), f"AbsentKeyError({key!r})")
                assert isinstance(caught.value, neardict.AbsentKeyError)
                assert caught.value.key == key
                for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
                    assert (again.args, again.key, str(again)) == ((key,), key, repr(key))
        with pytest.raises(KeyError) as empty:
            await wait(d.popitem())
        assert empty.value.args == ("popitem(): the domain is empty",)


@every_way
@pytest.mark.parametrize("key", NOT_STR, ids=repr)
async def test_a_key_that_is_no_str_is_absent_and_cannot_be_stored(
    server: Served, domain: str, way: Way, key: Any
) -> None:
    async with way.dict(server.address, domain) as d:
        assert not await wait(d.has(key))
        assert await wait(d.fetch(key, "default")) == "default"
        assert await wait(d.pop(key, "default")) == "default"
        assert await wait(d.get_many([key])) == {}
        assert await wait(d.delete_many([key])) == 0
        if way.load or way.client == "threads":
            assert key not in d
            assert d.get(key) is None
            assert d.get(key, 5) == 5
            with pytest.raises(KeyError):
                d[key]
        acts: list[Act] = [
            lambda: d.set(key, 1),
            lambda: d.update({key: 1}),
            lambda: d.update([(key, 1)]),
            lambda: d.setdefault(key, 1),
            lambda: d.compare_and_set(key, 1, 0),
            lambda: d.edit(key, lambda v: v, default=1),
        ]
        if way.client == "threads":
            acts += [lambda: d.__setitem__(key, 1), lambda: d.__ior__({key: 1})]
        for act in acts:
            with pytest.raises(TypeError, match=f"key must be a str, not {type(key).__name__}") as caught:
                await wait(act())
            assert isinstance(caught.value, neardict.InvalidArgumentError)
        assert await wait(d.snapshot()) == {}


@bounded_ways
async def test_what_is_not_hashable_is_a_type_error_as_with_dict(
    server: Served, domain: str, way: Way
) -> None:
    key: Any = ["a"]
    async with way.dict(server.address, domain) as d:
        acts: list[Act] = [
            lambda: d[key],
            lambda: key in d,
            lambda: d.get(key),
            lambda: d.fetch(key),
            lambda: d.fetch(key, 1),
            lambda: d.has(key),
            lambda: d.pop(key),
            lambda: d.pop(key, 1),
            lambda: d.delete(key),
            lambda: d.setdefault(key, 1),
            lambda: d.set(key, 1),
            lambda: d.get_many([key]),
        ]
        for act in acts:
            with pytest.raises(TypeError):
                await wait(act())


def test_operations_of_a_store_want_str_too(store: neardict.Store) -> None:
    wrong: Any = 1
    acts: list[Act] = [
        lambda: store.get_value("d", wrong),
        lambda: store.get_value(wrong, "k"),
        lambda: store.set_value("d", wrong, 1),
        lambda: store.delete_key("d", wrong),
        lambda: list(store.all_keys(wrong)),
        lambda: store.dict(wrong),
        lambda: store.get_many("d", "abc"),
    ]
    for act in acts:
        with pytest.raises(TypeError) as caught:
            act()
        assert isinstance(caught.value, neardict.InvalidArgumentError)
        assert isinstance(caught.value, ValueError)


@dataclasses.dataclass
class Game:
    name: str
    scores: Any


@bounded_ways
async def test_a_copy_by_class_is_a_plain_dict(server: Served, domain: str, way: Way) -> None:
    async with way.dict(server.address, domain) as d:
        await wait(d.set("a", [1]))
        if way.client == "asyncio" and not way.load:
            d = await wait(d._store.dict(domain))
        fields = dataclasses.asdict(Game("chess", d))
        assert fields == {"name": "chess", "scores": {"a": [1]}}
        assert type(fields["scores"]) is dict
        assert fields["scores"]["a"] is not d["a"]
        for made in (
            type(d)(iter([("a", 1)])),
            type(d)([("a", 1)]),
            type(d)({"a": 1}),
            type(d).fromkeys(["a"], 1),
            d.fromkeys("a", 1),
        ):
            assert type(made) is dict
            assert made == {"a": 1}
        assert type(d).fromkeys(["a"]) == {"a": None}
        with pytest.raises(TypeError):
            type(d)()


def test_the_dict_of_a_database_is_copied_as_a_plain_dict() -> None:
    d = MoobiusDict(NullDatabase())
    d["a"] = [1]
    fields = dataclasses.asdict(Game("chess", d))
    assert (type(fields["scores"]), fields["scores"]) == (dict, {"a": [1]})
    assert MoobiusDict.fromkeys("ab", 0) == {"a": 0, "b": 0}


@every_way
async def test_its_text_is_an_expression_that_says_what_it_is(server: Served, domain: str, way: Way) -> None:
    async with way.dict(server.address, domain) as d:
        name = "LinearizableDict" if way.consistency == "linearizable" else "CachedDict"
        name = name if way.client == "threads" else f"aio.{name}"
        cache = "" if way.load else ", load=False"
        assert repr(d) == f"{name}({domain!r}, {'{}' if way.load else '...'}{cache})"
        await wait(d.set("a", [1, None]))
        assert repr(d) == f"{name}({domain!r}, {{'a': [1, None]}}{cache})"
        assert eval(repr(d), {**vars(neardict), "aio": aio}) == {"a": [1, None]}
        # What it does not know, it does not show as empty.
        with d._lock:
            d.stale()
            assert repr(d) == f"{name}({domain!r}, {{'a': [1, None]}}{cache}, fresh=False)"
            assert eval(repr(d), {**vars(neardict), "aio": aio}) == {"a": [1, None]}
            d.reset()
            assert repr(d) == f"{name}({domain!r}, ...{cache})"


def test_the_text_of_the_dict_of_a_database_says_so(server: Served, domain: str) -> None:
    for database in (NullDatabase(), RemoteDatabase(domain, server.address)):
        d = MoobiusDict(database)
        assert repr(d) == "moobius.CachedDict(...)"
        d["a"] = [1]
        assert repr(d) == "moobius.CachedDict({'a': [1]})"
        assert eval(repr(d), {"moobius": neardict.moobius}) == {"a": [1]}
        d.clear()
        d.load()
        assert repr(d) == "moobius.CachedDict({})"
    d = MoobiusDict(NullDatabase())
    d["d"] = [d]
    assert repr(d) == "moobius.CachedDict({'d': [{...}]})"


class Own(neardict.CachedDict[Any]):
    """A class of a program's own."""


def test_the_text_of_a_class_of_ones_own_has_its_name(store: neardict.Store, domain: str) -> None:
    assert repr(Own(store, domain, load=False)) == f"Own({domain!r}, ..., load=False)"


@bounded_ways
async def test_refresh_shows_what_is_stored_whatever_was_edited_in_place(
    server: Served, domain: str, way: Way
) -> None:
    async with way.dict(server.address, domain) as d:
        one = {"n": 1}
        await wait(d.set("a", one))
        await wait(d.set("b", one))  # one object under two keys
        one["n"] = 2
        await wait(d.save("a"))
        assert await wait(d.fetch("b")) == {"n": 2}  # which is not what is stored
        await wait(d.refresh("b"))
        assert await wait(d.fetch("b")) == {"n": 1}
        assert await wait(d.fetch("a")) is one
        one["n"] = 3
        await wait(d.refresh())
        assert await wait(d.snapshot()) == {"a": {"n": 2}, "b": {"n": 1}}
        assert await wait(d.get_many(["ab"])) == {}
        held = await wait(d.get_many(["a", "b"]))
        assert held == {"a": {"n": 2}, "b": {"n": 1}}
        # What is as it is stored stays the same object.
        await wait(d.refresh())
        await wait(d.refresh("a"))
        for key, value in held.items():
            assert await wait(d.fetch(key)) is value
        for unsaved in (True, 1.0, object(), [held]):
            held["b"]["n"] = unsaved  # of which the first two equal what is stored
            await wait(d.refresh())
            assert type((await wait(d.fetch("b")))["n"]) is int
            held["b"] = await wait(d.fetch("b"))
        held["a"]["n"] = 4
        # It goes on as before.
        await wait(d.save("a"))
        assert await wait(d.fetch("a")) is held["a"]
        assert await wait(d._store.get_value(domain, "a")) == {"n": 4}


async def test_refresh_shows_what_is_stored_in_a_bounded_cache(server: Served, domain: str) -> None:
    with neardict.connect(server.address) as store:
        d = store.dict(domain, load=False, max_entries=2)
        d["a"], d["b"] = [1], [1]
        d["a"].append(2)
        d.refresh()
        assert d.snapshot() == {"a": [1], "b": [1]}
        assert d["a"] == [1]


@pytest.mark.parametrize("load", [True, False])
def test_a_write_during_a_refresh_keeps_its_object(server: Served, domain: str, load: bool) -> None:
    with neardict.connect(server.address) as store:
        d = store.dict(domain, load=load)
        d["a"] = [0]
        new = [1]
        pages = store.pages

        def written_meanwhile(*args: Any, **options: Any) -> Any:
            d["a"] = new
            yield from pages(*args, **options)

        store.pages = written_meanwhile  # type: ignore[method-assign]  # for this one
        d.refresh()
        assert d["a"] is new


@bounded_ways
async def test_containers_of_the_library_take_it(server: Served, domain: str, way: Way) -> None:
    if way.client == "asyncio" and not way.load:
        pytest.skip("what it does not hold it cannot show without waiting")
    async with way.dict(server.address, domain) as d:
        await wait(d.update(a=1, b=2))
        assert collections.ChainMap(d, {"c": 3})["c"] == 3
        assert collections.Counter(d) == {"a": 1, "b": 2}
        assert json.loads(json.dumps(d)) == {"a": 1, "b": 2}


async def later(*args: object) -> None: ...


class Later:
    async def __call__(self, *args: object) -> None: ...


# What is no callback: of what kind the error is.
NO_CALLBACKS: dict[str, tuple[Any, type[Exception]]] = {
    "a number": (5, neardict.InvalidTypeError),
    "awaited": (later, neardict.InvalidArgumentError),
    "awaited, an object": (Later(), neardict.InvalidArgumentError),
    "awaited, wrapped": (functools.partial(later), neardict.InvalidArgumentError),
}


@pytest.mark.parametrize("client", [*CLIENTS])
@pytest.mark.parametrize("name", [*NO_CALLBACKS])
async def test_what_cannot_be_called_back_is_refused_at_once(
    server: Served, domain: str, client: str, name: str
) -> None:
    wrong, kind = NO_CALLBACKS[name]
    store = CLIENTS[client].connect(server.address)
    try:
        d = await wait(store.dict(domain))
        registrations: list[Callable[[], Any]] = [
            lambda: d.on_change(wrong),
            lambda: d.on_change(print, on_reset=wrong),
            lambda: store.on_connection(wrong),
            lambda: store.dict(domain, on_progress=wrong),
        ]
        for register in registrations:
            with pytest.raises(kind, match=r"must be a (plain )?function"):
                await wait(register())
    finally:
        await wait(store.close())


def test_how_far_a_listing_is_is_told_once_for_each_step(store: neardict.Store, domain: str) -> None:
    told: list[Any] = []
    store.dict(domain, on_progress=lambda *so_far: told.append(so_far))
    assert told == [(0, 0)]
    store.set_many(domain, {"a": 1, "b": 2})
    told.clear()
    store.dict(domain, on_progress=lambda *so_far: told.append(so_far))
    assert told == [(2, 2)]


def test_entries_that_are_no_dict_are_refused(store: neardict.Store, domain: str) -> None:
    with pytest.raises(neardict.InvalidTypeError, match="must be a dict, and this is a list"):
        store.set_many(domain, [("a", 1)])  # type: ignore[arg-type]
