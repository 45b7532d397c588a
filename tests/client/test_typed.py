"""Dicts whose values are of one type: what is written is checked, and what is read."""

import dataclasses
import itertools
import typing
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

import neardict
from neardict._value_type import ValueType
from served import Served

from .both import Way, every_way, wait

Act = Callable[[], Any]
_numbers = itertools.count()


@dataclasses.dataclass
class Player:
    hp: int
    items: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Warrior(Player):
    rage: int = 0


@neardict.register
@dataclasses.dataclass
class Elsewhere:
    hp: int


class Row(TypedDict):
    name: str
    scores: dict[str, int]


class Tree(TypedDict):
    name: str
    children: "list[Tree]"


class Even(TypedDict, total=False):
    odd: "Odd | None"


class Odd(TypedDict, total=False):
    evens: dict[str, Even]


class Nameless(TypedDict):
    missing: "Missing"  # type: ignore[name-defined]  # noqa: F821  # nobody knows it


def fresh_class() -> type:
    """Returns a dataclass that nobody has registered."""
    cls = dataclasses.make_dataclass(f"Fresh{next(_numbers)}", [("hp", int)])
    cls.__module__ = __name__
    return cls


@every_way
async def test_a_dict_of_a_class_registers_it_and_takes_nothing_else(
    server: Served, domain: str, way: Way
) -> None:
    cls = fresh_class()
    async with way.dict(server.address, domain, cls) as d:
        await wait(d.set("alice", cls(3)))
        assert await wait(d._store.get_value(domain, "alice")) == cls(3)
        await wait(d.edit("alice", lambda p: setattr(p, "hp", 4)))
        assert await wait(d.fetch("alice")) == cls(4)
        acts: list[Act] = [
            lambda: d.set("alice", {"hp": 3}),
            lambda: d.set("alice", Elsewhere(3)),
            lambda: d.update(alice=cls(1), bob=None),
            lambda: d.setdefault("bob"),
            lambda: d.edit("alice", lambda p: p.hp, replace=True),
            lambda: d.edit("bob", lambda p: p, default=3),
            lambda: d.compare_and_set("bob", 3, 0),
        ]
        if way.client == "threads":
            acts += [lambda: d.__setitem__("alice", 3), lambda: d.__ior__({"alice": 3})]
        for act in acts:
            with pytest.raises(neardict.UnsupportedValueError, match=f"of the type {cls.__name__}") as caught:
                await wait(act())
            assert isinstance(caught.value, TypeError)
        assert await wait(d.snapshot()) == {"alice": cls(4)}
        assert await wait(d._store.get_value(domain, "alice")) == cls(4)


@every_way
async def test_what_is_stored_and_of_another_type_is_undecodable(
    server: Served, domain: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with way.store(server.address) as store:
        await wait(store.set_value(domain, "good", [1]))
        await wait(store.set_value(domain, "bad", "text"))
        d = await way.of(store, domain, list[int])
        assert await wait(d.snapshot()) == {"good": [1]}
        assert "1 entries of the domain" in caplog.text
        acts: list[Act] = [
            lambda: d.fetch("bad"),
            lambda: d.get_many(["good", "bad"]),
            lambda: d.edit("bad", lambda v: v),
            lambda: d.refresh("bad"),
        ]
        for act in acts:
            with pytest.raises(neardict.UndecodableValueError, match=r"type list\[int\].*is a str"):
                await wait(act())
        # Mended, it is there.
        await wait(store.set_value(domain, "bad", [2]))
        assert await wait(d.fetch("bad")) == [2]
        await wait(store.set_value(domain, "good", ["2"]))
        with pytest.raises(neardict.UndecodableValueError, match="a list with other contents"):
            await wait(d.fetch("good"))
        await wait(d.set("good", [3]))
        assert await wait(d.get_many(["good", "bad"])) == {"good": [3], "bad": [2]}


def test_a_subclass_is_of_the_type_too(store: neardict.Store, domain: str) -> None:
    neardict.register(Warrior)
    d = store.dict(domain, Player)
    d["a"], d["b"] = Player(1), Warrior(2, [], 3)
    d.refresh()
    assert d["b"] == Warrior(2, [], 3)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [1, 2**70, True], ["1", 1.5, None]),
        (float, [1.5, 1], ["1", None]),
        (bool, [True], [1, None]),
        (str, ["a"], [b"a", 1]),
        (bytes, [b"a"], ["a"]),
        (list, [[], [1, "a"]], [{}, "a"]),
        (dict, [{}, {"a": [1]}], [[]]),
        (list[int], [[], [1]], [["a"], [1, None]]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "1"}, []]),
        (dict[str, list[dict[str, bool]]], [{"a": [{"b": True}]}], [{"a": [{"b": 1}]}, {"a": {}}]),
        (int | None, [1, None], ["a"]),
        (list[int | str], [[1, "a"]], [[None]]),
        (dict[str, Any], [{"a": 1}], [[1]]),
        (dict[str, Elsewhere], [{"a": Elsewhere(1)}], [{"a": {"hp": 1}}, Elsewhere(1)]),
        (Row, [{"name": "a", "scores": {"b": 1}}], [{"name": "a"}, {"name": "a", "scores": {}, "x": 1}, []]),
        (
            Tree,
            [{"name": "a", "children": [{"name": "b", "children": []}]}],
            [{"name": "a", "children": [{"name": "b"}]}, {"name": "a", "children": [[]]}],
        ),
        (
            list[Even],
            [[{}, {"odd": {"evens": {"a": {"odd": None}}}}]],
            [[{"odd": {"evens": {"a": {"even": 1}}}}], [{"odd": {"evens": []}}]],
        ),
        # Without arguments they are the plain types.
        (typing.List, [[], [1, "a"]], [{}]),  # noqa: UP006
        (typing.Dict, [{}, {"a": [1]}], [[]]),  # noqa: UP006
        (typing.List[int], [[1]], [["a"]]),  # noqa: UP006
        (dict[str, typing.List], [{"a": [1]}], [{"a": 1}]),  # type: ignore[type-arg]  # noqa: UP006
        (Any, [1, None, []], []),
        (object, [1, None, []], []),
    ],
    ids=str,
)
def test_which_values_are_of_a_type(hint: Any, good: list[Any], bad: list[Any]) -> None:
    value_type = ValueType(hint)
    for value in good:
        value_type.check_written(value)
        assert value_type.checked(value) is value
    for value in bad:
        with pytest.raises(neardict.UnsupportedValueError):
            value_type.check_written(value)
        with pytest.raises(neardict.UndecodableValueError):
            value_type.checked(value)
    found = value_type.all_checked([*good, *bad])
    assert found[: len(good)] == good
    assert all(isinstance(error, neardict.UndecodableValueError) for error in found[len(good) :])


NO_TYPES = ["text", 3, tuple[int, int], dict[int, int], set[int], typing.Union, typing.Tuple, Nameless]  # noqa: UP006


@pytest.mark.parametrize("hint", NO_TYPES, ids=str)
def test_what_is_no_type_of_values_is_refused(store: neardict.Store, domain: str, hint: Any) -> None:
    with pytest.raises(TypeError):
        store.dict(domain, hint)


class Plain:
    pass


def test_a_class_that_cannot_be_registered_as_it_is_is_refused(store: neardict.Store, domain: str) -> None:
    with pytest.raises(TypeError, match="give encode and decode"):
        store.dict(domain, Plain)


def test_it_says_nothing_of_the_value(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, int)
    wrong: Any = "secret"
    with pytest.raises(neardict.UnsupportedValueError) as caught:
        d["a"] = wrong
    assert str(caught.value) == "this dict holds values of the type int, and this is a str"
