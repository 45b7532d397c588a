"""What an edit stores: never by accident something else than the value."""

import dataclasses
import datetime
import functools
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict._edited import Change
from served import Served

from .both import Way, every_way, wait


@neardict.register
@dataclasses.dataclass
class Hero:
    name: str
    items: list[str] = dataclasses.field(default_factory=list)
    rival: "Hero | None" = None

    async def wait(self) -> None:
        """Waits."""


@neardict.register
@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    y: int = 0


@neardict.register
@dataclasses.dataclass(frozen=True)
class Shelf:
    books: list[str]


VALUES: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"items": ["sword"], "stats": {"hp": 3}, "n": 1, "parts": [{"a": 1}]},
    "list": lambda: [[1], [2, [3]], {"a": []}, "text"],
    "instance": lambda: Hero("alice", ["sword"], Hero("bob")),
    "frozen with a list": lambda: Shelf(["dune"]),
}

# What returns something else than the value, or than a new one.
ACCIDENTS: list[tuple[str, Callable[[Any], Any]]] = [
    ("dict", lambda v: v["items"].pop()),
    ("dict", lambda v: v.pop("n")),
    ("dict", lambda v: v.pop("stats")),  # of the type of the value, but a part of it
    ("dict", lambda v: v["stats"]),
    ("dict", lambda v: v.get("stats")),
    ("dict", lambda v: v["parts"].pop()),
    ("dict", lambda v: v["parts"][0]),
    ("dict", lambda v: v.setdefault("new", {})),
    ("dict", lambda v: v.setdefault("items", [])),
    ("dict", lambda v: v.popitem()),
    ("dict", lambda v: v.keys()),
    ("dict", lambda v: v["stats"].update(hp=1) is None),
    ("dict", lambda v: len(v)),
    ("dict", lambda v: [v]),
    ("dict", lambda v: "text"),
    ("list", lambda v: v.pop()),
    ("list", lambda v: v.pop(0)),
    ("list", lambda v: v[1][1]),
    ("list", lambda v: v[2]["a"]),
    ("list", lambda v: v.index("text")),
    ("list", lambda v: tuple(v)),
    ("list", lambda v: {"a": v}),
    ("instance", lambda v: v.items.pop()),
    ("instance", lambda v: v.items),
    ("instance", lambda v: v.rival),
    ("instance", lambda v: v.name),
    ("instance", lambda v: vars(v)),
    ("instance", dataclasses.asdict),
    ("frozen with a list", lambda v: v.books.pop()),
]

# What is meant: changes in place, and new values.
EDITS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("dict", lambda v: v["items"].append("bow"), ("items", ["sword", "bow"])),
    ("dict", lambda v: v.update(n=2), ("n", 2)),
    ("dict", lambda v: {**v, "n": 2}, ("n", 2)),
    ("dict", lambda v: v | {"n": 2}, ("n", 2)),
    ("dict", lambda v: {"n": 2, "old": v}, ("n", 2)),
    ("dict", dict, ("n", 1)),
]


@pytest.mark.parametrize(("kind", "function"), ACCIDENTS)
def test_what_is_no_new_value_is_not_taken_for_one(kind: str, function: Callable[[Any], Any]) -> None:
    value = VALUES[kind]()
    with pytest.raises(neardict.UnsupportedValueError, match=r"edit of 'alice'.*replace=True") as caught:
        Change(function).apply("alice", value)
    assert isinstance(caught.value, TypeError)
    value = VALUES[kind]()
    assert Change(function, replace=True).apply("alice", value) == function(VALUES[kind]())


@pytest.mark.parametrize(("kind", "function", "part"), EDITS)
def test_changes_in_place_and_new_values_are(
    kind: str, function: Callable[[Any], Any], part: tuple[str, Any]
) -> None:
    changed = Change(function).apply("alice", VALUES[kind]())
    assert changed[part[0]] == part[1]


def test_lists_and_instances_are_changed_in_place_or_made_anew() -> None:
    assert Change(sorted).apply("k", [2, 1]) == [1, 2]
    assert Change(lambda v: v.sort()).apply("k", [2, 1]) == [1, 2]
    assert Change(lambda v: v[:1]).apply("k", [[2], [1]]) == [[2]]
    assert Change(lambda v: [*v, 3]).apply("k", [1]) == [1, 3]
    hero = Hero("alice", ["sword"])
    assert Change(lambda v: dataclasses.replace(v, name="ann")).apply("k", hero) == Hero("ann", ["sword"])
    assert Change(lambda v: v.items.clear()).apply("k", hero) is hero


@pytest.mark.parametrize(
    ("value", "function", "changed"),
    [
        (1, lambda v: v + 1, 2),
        (1, lambda v: v / 2, 0.5),
        (1, str, "1"),
        ("a", list, ["a"]),
        (b"a", lambda v: v.decode(), "a"),
        (True, lambda v: not v, False),
        (None, lambda v: {"first": 1}, {"first": 1}),
        (Place(1), lambda v: v.x, 1),
        (datetime.date(2026, 1, 1), lambda v: v.isoformat(), "2026-01-01"),
    ],
)
def test_what_cannot_be_changed_in_place_may_become_anything(
    value: Any, function: Callable[[Any], Any], changed: Any
) -> None:
    assert Change(function).apply("k", value) == changed


async def waits(value: Any) -> None:
    value["waited"] = True


class Waiting:
    async def __call__(self, value: Any) -> None:
        value["waited"] = True


@pytest.mark.parametrize(
    "function",
    [waits, functools.partial(waits), Waiting(), Hero("x").wait, lambda v: waits(v)],
    ids=["function", "partial", "object", "method", "lambda"],
)
def test_what_would_have_to_be_awaited_is_refused(function: Any) -> None:
    with pytest.raises(neardict.InvalidTypeError, match="plain function"):
        Change(function).apply("k", {})
    with pytest.raises(neardict.InvalidTypeError, match="plain function"):
        Change(function, replace=True).apply("k", 1)


@every_way
async def test_after_a_refused_edit_everything_is_as_it_was(server: Served, domain: str, way: Way) -> None:
    async with way.dict(server.address, domain) as d:
        await wait(d.set("alice", {"items": ["sword"], "stats": {}}))
        revision = (await wait(d._store.get_entry(domain, "alice"))).revision
        acts: list[Callable[[], Any]] = [
            lambda: d.edit("alice", lambda p: p["items"].pop()),
            lambda: d.edit("alice", lambda p: p.pop("stats")),
            lambda: d.edit("alice", waits),
            lambda: d.edit("alice", lambda p: waits(p)),
            lambda: d.edit("alice", "no function"),
            lambda: d.edit("bob", lambda p: len(p), default=[]),
        ]
        for act in acts:
            with pytest.raises(TypeError):
                await wait(act())
        assert await wait(d.fetch("alice")) == {"items": ["sword"], "stats": {}}
        assert (await wait(d._store.get_entry(domain, "alice"))).revision == revision
        assert not await wait(d.has("bob"))
        # In words, it can be done.
        assert await wait(d.edit("alice", lambda p: p["stats"], replace=True)) == {}
        assert await wait(d.edit("alice", lambda p: None, replace=True)) is None
        assert await wait(d._store.get_value(domain, "alice")) is None


def test_a_value_that_holds_a_lot_is_looked_through_once() -> None:
    shared: list[Any] = []
    value = {str(number): shared for number in range(1000)}
    deep: list[Any] = []
    value["deep"] = deep
    for _ in range(2000):
        deep.append([])
        deep = deep[0]
    assert Change(lambda v: v.update(x=1)).apply("k", value) is value
