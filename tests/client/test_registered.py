"""Instances of registered classes as values."""

import copy
import dataclasses
import datetime
import enum
import gc
import json
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neardict
from neardict import _dataclasses, _models, registry, values
from neardict.v1 import storage_pb2 as pb

from .steady import steady


@pytest.fixture(autouse=True)
def registrations() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    by_class, by_name = dict(registry.BY_CLASS), dict(registry.BY_NAME)
    for told in (registry._warned, _dataclasses._told, _models._told):
        told.clear()
    yield
    for known, before in ((registry.BY_CLASS, by_class), (registry.BY_NAME, by_name)):
        known.clear()
        known.update(before)  # type: ignore[arg-type]  # each its own


def there_and_back(value: Any) -> Any:
    return values.decode(values.encode(value))


@dataclass
class Item:
    name: str
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    x: int
    y: int


@dataclass
class Player:
    hp: int
    place: Place
    items: list[Item] = field(default_factory=list)
    by_name: dict[str, Item] = field(default_factory=dict)
    best: Item | None = None
    old: Optional[Place] = None  # noqa: UP045  # the older spelling
    pair: tuple[int, str] = (0, "")
    path: tuple[Place, ...] = ()
    tags: set[str] = field(default_factory=set)
    frozen: frozenset[int] = frozenset()
    anything: Any = None
    either: Item | Place | int | str = 0
    total: int = field(default=0, init=False)
    kinds: typing.ClassVar[int] = 3


places = st.builds(Place, st.integers(), st.integers())
items = st.builds(
    Item, st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False, allow_infinity=False)
)
names = st.text(st.characters(codec="utf-8"), max_size=5)


@st.composite
def players(draw: st.DrawFn) -> Player:
    player = draw(
        st.builds(
            Player,
            hp=st.integers(),
            place=places,
            items=st.lists(items, max_size=3),
            by_name=st.dictionaries(names, items, max_size=3),
            best=st.none() | items,
            old=st.none() | places,
            pair=st.tuples(st.integers(), names),
            path=st.lists(places, max_size=3).map(tuple),
            tags=st.sets(names, max_size=3),
            frozen=st.frozensets(st.integers(), max_size=3),
            anything=st.none() | st.lists(st.integers() | names, max_size=3),
            either=items | places | st.integers() | names,
        )
    )
    player.total = draw(st.integers())
    return player


@steady
@given(players())
def test_a_registered_dataclass_comes_back_equal_with_the_types_of_its_hints(player: Player) -> None:
    neardict.register(Player)
    again = there_and_back({"one": player, "more": [player]})
    assert again == {"one": player, "more": [player]}
    assert [type(getattr(again["one"], f.name)) for f in dataclasses.fields(Player)] == [
        type(getattr(player, f.name)) for f in dataclasses.fields(Player)
    ]


def test_the_stored_form_is_that_of_the_moobius_sdk() -> None:
    neardict.register(Player, name="game.Player")
    text = json.loads(values.encode(Player(1, Place(2, 3), [Item("sword")])).json)
    assert text["_moobius_type"] == "game.Player"
    # Nested ones are plain inside.
    assert text["_moobius_val"]["place"] == {"x": 2, "y": 3}
    assert text["_moobius_val"]["items"] == [{"name": "sword", "weight": 0.0}]


def test_register_works_as_a_decorator_and_names_the_class_after_its_module() -> None:
    @neardict.register
    @dataclass
    class Local:
        x: int

    text = json.loads(values.encode(Local(1)).json)
    assert text["_moobius_type"] == f"{__name__}.Local"
    assert there_and_back([Local(1)]) == [Local(1)]


def test_register_with_arguments_works_as_a_decorator_too() -> None:
    @neardict.register(name="hero")
    @dataclass
    class Hero:
        x: int

    @neardict.register()
    @dataclass
    class Nameless:
        x: int

    @neardict.register(name="color", encode=lambda c: {"c": c.value}, decode=lambda data: Color(data["c"]))
    class Color(enum.Enum):
        RED = 1

    typing.assert_type(Hero(1), Hero)
    assert json.loads(values.encode(Hero(1)).json)["_moobius_type"] == "hero"
    assert json.loads(values.encode(Nameless(1)).json)["_moobius_type"] == f"{__name__}.Nameless"
    assert there_and_back([Hero(1), Nameless(2), Color.RED]) == [Hero(1), Nameless(2), Color.RED]


def test_what_is_not_a_class_cannot_be_registered() -> None:
    for mistake in ("hero", Item("x")):
        with pytest.raises(TypeError, match=r"is not a class; a name is given as register\(name=\.\.\.\)"):
            neardict.register(mistake)  # type: ignore[call-overload]


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
def test_a_class_of_the_started_program_is_refused_without_a_name(module: str) -> None:
    cls = dataclasses.make_dataclass("Hero", [("x", int)])
    cls.__module__ = module
    with pytest.raises(
        ValueError, match=r"Hero is of the started program.*@neardict.register\(name='hero'\)"
    ):
        neardict.register(cls)
    assert cls not in registry.BY_CLASS
    neardict.register(cls, name="hero")
    assert there_and_back(cls(1)) == cls(1)
    neardict.register(cls, name=f"{module}.Hero")  # as data may have it already
    assert there_and_back(cls(1)) == cls(1)


def test_a_class_that_is_not_registered_is_refused_also_inside_another_value() -> None:
    with pytest.raises(
        neardict.UnsupportedValueError, match=r"value\['a'\]\[0\] is a Item: register its class"
    ):
        values.encode({"a": [Item("x")]})


def test_pydantic_models_come_back_equal() -> None:
    class Inner(pydantic.BaseModel):
        when: datetime.datetime
        tags: set[str] = set()

    @neardict.register
    class Model(pydantic.BaseModel):
        inner: list[Inner]
        color: typing.Literal["red"] = "red"

    model = Model(inner=[Inner(when=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), tags={"a", "b"})])
    assert there_and_back(model) == model


def test_other_classes_are_stored_by_functions_of_their_own() -> None:
    class Color(enum.StrEnum):
        RED = "red"

    neardict.register(Color, encode=lambda c: {"color": c.value}, decode=lambda data: Color(data["color"]))
    neardict.register(
        datetime.date,
        encode=lambda day: {"day": day.isoformat()},
        decode=lambda data: datetime.date.fromisoformat(data["day"]),
    )
    again = there_and_back({"c": Color.RED, "d": [datetime.date(2020, 1, 2)]})
    assert type(again["c"]) is Color
    assert again["d"] == [datetime.date(2020, 1, 2)]


def test_functions_of_a_class_may_hold_other_registered_instances() -> None:
    class Box:
        def __init__(self, inside: Any) -> None:
            self.inside = inside

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Box) and self.inside == other.inside

        __hash__ = None  # type: ignore[assignment]

    neardict.register(Box, encode=lambda b: {"inside": b.inside}, decode=lambda data: Box(data["inside"]))
    neardict.register(Place)
    assert there_and_back(Box([Box(Place(1, 2)), None])) == Box([Box(Place(1, 2)), None])


def refused(value: Any, match: str) -> None:
    with pytest.raises(neardict.UnsupportedValueError, match=match) as caught:
        values.encode({"a": [value]})
    assert type(caught.value) is neardict.UnsupportedValueError


def test_an_instance_that_would_come_back_different_is_refused() -> None:
    class Color(enum.IntEnum):
        RED = 1

    @neardict.register
    @dataclass
    class Odd:
        x: Any = None

    for bad, problem in [
        ((1, 2), r"value\['a'\]\[0\] is a .*Odd, and making it anew .* is not equal"),
        ({1}, "is not equal"),
        ({1: 2}, r"value\['a'\]\[0\]\['x'\] has the key 1 of type int"),
        (Color.RED, r"value\['a'\]\[0\]\['x'\] is a Color"),
        (datetime.date(2020, 1, 1), r"value\['a'\]\[0\]\['x'\] is a date"),
        (float("nan"), r"\['x'\] is a float without a JSON form"),
        ("\ud800", "lone surrogate"),
        (10**5000, "too many digits"),
        (b"x", r"\['x'\] is a bytes"),
        (object(), r"\['x'\] is a object"),
    ]:
        refused(Odd(bad), problem)
    itself = Odd()
    itself.x = itself
    # What is collected with hardly any stack left fails, whatever it is, and that is no fault of this test.
    gc.collect()
    gc.disable()
    try:
        refused(itself, "nests too deep, or contains itself")
    finally:
        gc.enable()


def test_an_instance_without_equality_comes_back_with_all_that_is_in_it() -> None:
    @neardict.register
    @dataclass(eq=False)
    class Unequal:
        x: Any = 0

    assert there_and_back(Unequal([1, {"a": 2}])).x == [1, {"a": 2}]
    refused(Unequal([1, (2,)]), "is not equal: register it with encode and decode")


def test_an_instance_with_a_constructor_of_its_own_is_refused() -> None:
    @neardict.register
    @dataclass
    class Derived:
        x: int
        given: dataclasses.InitVar[int] = dataclasses.field()

    @neardict.register
    @dataclass
    class Unreadable:
        x: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821  # on purpose

    refused(Derived(1, 2), "fails with TypeError")
    refused(Unreadable(1), "fails with NameError")


def test_a_subclass_of_a_registered_class_is_not_registered_with_it() -> None:
    @dataclass
    class Special(Item):
        pass

    neardict.register(Item)
    refused(Special("x"), "is a Special: register its class")
    neardict.register(Player)
    refused(Player(1, Place(1, 2), [Special("x")]), "is not equal")


def test_a_name_belongs_to_one_class() -> None:
    neardict.register(Item, name="thing")
    with pytest.raises(ValueError, match="another class is registered as 'thing': choose a name"):
        neardict.register(Place, name="thing")
    neardict.register(Item, name="thing")
    with pytest.raises(ValueError, match="NoneType"):
        neardict.register(Item, name="NoneType")
    with pytest.raises(TypeError, match="no dataclass or pydantic model: give encode and decode"):
        neardict.register(int)


def test_a_class_may_get_a_new_name_and_still_read_what_was_stored_under_the_old_one() -> None:
    neardict.register(Item, name="old")
    stored = values.encode(Item("x"))
    neardict.register(Item, name="new")
    assert json.loads(values.encode(Item("x")).json)["_moobius_type"] == "new"
    assert values.decode(stored) == Item("x")
    neardict.register(Item, name="old")


def test_a_class_that_is_defined_anew_takes_the_place_of_its_earlier_self() -> None:
    def define() -> type:
        cls = dataclasses.make_dataclass("Redefined", [("x", int)])
        cls.__module__ = __name__
        return cls

    before, after = define(), define()
    neardict.register(before)
    stored = values.encode(before(1))
    neardict.register(after)
    assert type(values.decode(stored)) is after
    assert there_and_back(after(2)) == after(2)


def test_a_field_may_hold_the_json_form_of_its_class_and_comes_back_as_an_instance() -> None:
    neardict.register(Player)
    sword = {"name": "sword", "weight": 2.5}
    given: Any = Player(1, {"y": 2, "x": 1}, [sword, Item("bow")], {"a": {"name": "axe"}}, best=sword)  # type: ignore[arg-type, list-item, dict-item]
    again = there_and_back([given])[0]
    assert again == Player(
        1,
        Place(1, 2),
        [Item("sword", 2.5), Item("bow")],
        {"a": Item("axe")},
        best=Item("sword", 2.5),
    )
    assert there_and_back(again) == again


def test_a_json_form_that_would_lose_something_is_refused() -> None:
    @neardict.register
    @dataclass
    class Holder:
        item: Item | None = None

        def __post_init__(self) -> None:
            if isinstance(self.item, Item):
                self.item.name = self.item.name[:3]

    there_and_back(Holder({"name": "bow"}))  # type: ignore[arg-type]
    for lossy in ({"name": "sword"}, {"name": "bow", "weight": (1, 2)}):
        refused(Holder(lossy), "is not equal")  # type: ignore[arg-type]


@dataclass
class Sword:
    edge: int = 1


@dataclass
class Bow:
    reach: int = 1


def test_of_two_classes_in_a_field_the_one_with_all_the_fields_is_built() -> None:
    @neardict.register
    @dataclass
    class Holder:
        held: Sword | Bow

    assert there_and_back([Holder(Bow(3)), Holder(Sword(4))]) == [Holder(Bow(3)), Holder(Sword(4))]


def test_fields_that_were_added_since_get_their_defaults() -> None:
    neardict.register(Item, name="item")
    assert values.decode(pb.Value(json='{"_moobius_type":"item","_moobius_val":{"name":"x"}}')) == Item(
        "x", 0.0
    )


REMOVED: Any = {
    "_moobius_type": "player",
    "_moobius_val": {
        "hp": 1,
        "place": {"x": 1, "y": 2},
        "items": [{"name": "x", "weight": 1.0, "gone": [1]}],
        "since": {"a": None},
    },
}


def test_fields_that_were_removed_since_are_stored_again_with_the_instance(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @dataclass
    class Player:
        hp: int
        place: dict[str, int]
        items: list[Item]

    neardict.register(Player, name="player")
    player = values.decode(pb.Value(json=json.dumps(REMOVED)))
    assert player == Player(1, {"x": 1, "y": 2}, [Item("x", 1.0)])
    for copied in (player, copy.deepcopy(player), pickle.loads(pickle.dumps(player.items[0]))):
        if isinstance(copied, Item):
            assert vars(copied) == vars(player.items[0])
        else:
            assert json.loads(values.encode(copied).json) == REMOVED
    player.hp += 1
    after = json.loads(values.encode([player]).json)[0]["_moobius_val"]
    assert after == REMOVED["_moobius_val"] | {"hp": 2}
    told = [record.getMessage() for record in caplog.records]
    assert [message for message in told if "'Item'" in message and "register decode" in message]
    values.decode(pb.Value(json=json.dumps(REMOVED)))
    assert len(caplog.records) == len(told), "once for each class"


def test_fields_that_were_removed_and_cannot_be_kept_make_the_value_undecodable() -> None:
    neardict.register(Place, name="place")
    old = pb.Value(json='[{"_moobius_type":"place","_moobius_val":{"x":1,"y":2,"z":3}}]')
    with pytest.raises(
        neardict.UndecodableValueError, match=r"has fields that its class has not.*register decode"
    ):
        values.decode(old)
    neardict.register(Place, name="place", decode=lambda data: Place(data["x"], data["y"]))
    assert values.decode(old) == [Place(1, 2)]


def test_a_removed_field_survives_an_edit_and_a_save_of_a_dict(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    elsewhere.set_value(
        domain, "sword", {"_moobius_type": "item", "_moobius_val": {"name": "sword", "gone": {"a": [1]}}}
    )
    neardict.register(Item, name="item")
    d = store.dict(domain)
    d["sword"].weight = 2.0
    d.save("sword")
    with d.edit("sword") as sword:
        sword.weight += 1
    d["other"] = d["sword"]
    registry.BY_NAME.pop("item")
    for key in ("sword", "other"):
        assert elsewhere.get_value(domain, key)["_moobius_val"] == {
            "name": "sword",
            "weight": 3.0,
            "gone": {"a": [1]},
        }


def test_a_pydantic_model_that_ignores_stored_fields_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Model(pydantic.BaseModel):
        x: int

    class Keeping(pydantic.BaseModel, extra="allow"):
        x: int

    neardict.register(Model, name="model")
    neardict.register(Keeping, name="keeping")
    for name in ("model", "model", "keeping"):
        again = values.decode(
            pb.Value(json=f'{{"_moobius_type":"{name}","_moobius_val":{{"x":1,"gone":"secret"}}}}')
        )
        assert again.x == 1
    assert json.loads(values.encode(again).json)["_moobius_val"] == {"x": 1, "gone": "secret"}
    (record,) = caplog.records
    assert "Model" in record.getMessage()
    assert "extra='allow'" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_data_that_does_not_fit_its_class_is_undecodable_and_tells_what_to_do() -> None:
    neardict.register(Place, name="place")
    for data in ('{"x":1}', "[]", "null", "3"):
        text = f'{{"_moobius_type":"place","_moobius_val":{data}}}'
        with pytest.raises(
            neardict.UndecodableValueError, match="does not fit the class registered as 'place'"
        ):
            values.decode(pb.Value(json=text))


@pytest.mark.parametrize(
    "data",
    [
        {"_moobius_type": "somebody.Else", "_moobius_val": {"x": [1]}},
        {"_moobius_type": 3, "_moobius_val": None},
        {"_moobius_type": ["x"], "_moobius_val": {}},
        {"_moobius_type": "os.system"},
        {"_moobius_val": 1},
        {"_moobius_type": "NoneType", "_moobius_val": None, "more": 1},
        {"a": [{"_moobius_type": "somebody.Else", "_moobius_val": {"_moobius_type": 1}}]},
    ],
)
def test_markers_of_unknown_classes_stay_plain_and_are_written_back_unchanged(data: Any) -> None:
    assert there_and_back(data) == data
    assert json.loads(values.encode(data).json) == data


def test_a_marker_that_nobody_registered_is_told_once_for_each_name(caplog: pytest.LogCaptureFixture) -> None:
    def read(name: Any) -> None:
        values.decode(pb.Value(json=json.dumps([{"_moobius_type": name, "_moobius_val": {"x": "secret"}}])))

    for name in ("a.Hero", "a.Hero", "__main__.Hero", "a.Hero", 3, None, ["x"], "NoneType"):
        read(name)
    hero, main = [record.getMessage() for record in caplog.records]
    assert "'a.Hero', which is not registered" in hero
    assert "put @neardict.register before the class" in hero
    assert "put @neardict.register(name='__main__.Hero') before the class" in main
    assert "secret" not in caplog.text
    # Others write these names: neither their number nor their length may matter here.
    for number in range(2000):
        read(f"x{number}.{'y' * 1000}")
    assert len(registry._warned) <= 1000
    assert max(len(record.getMessage()) for record in caplog.records) < 500


def test_what_was_read_before_its_class_was_registered_is_written_back_unchanged() -> None:
    text = '{"_moobius_type":"place","_moobius_val":{"x":1,"y":2}}'
    plain = values.decode(pb.Value(json=text))
    assert type(plain) is dict
    neardict.register(Place, name="place")
    assert values.encode(plain).json == text
    assert there_and_back(plain) == Place(1, 2)
    # Were it to be unreadable from now on, it is refused.
    refused({"_moobius_type": "place", "_moobius_val": {"x": 1}}, "keys '_moobius_type' and '_moobius_val'")


def test_the_marker_of_none_reads_as_none() -> None:
    text = '{"a":{"_moobius_type":"NoneType","_moobius_val":null}}'
    assert values.decode(pb.Value(json=text)) == {"a": None}


def test_stored_data_never_imports_anything(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\nclass Trap: ...\n")
    program = """
import json, sys
from neardict import values
from neardict.v1 import storage_pb2 as pb
for name in ("trap.Trap", "trap", "os.system", "neardict.cli.main", "antigravity"):
    data = {"_moobius_type": name, "_moobius_val": {"__class__": name, "x": ["trap"]}}
    for text in (json.dumps(data), json.dumps([{"a": data}])):
        before = set(sys.modules)
        value = values.decode(pb.Value(json=text))
        values.encode(value)
        assert set(sys.modules) == before, set(sys.modules) - before
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_a_dict_shows_the_very_instance_that_was_stored_and_others_an_equal_one(
    store: neardict.Store, domain: str
) -> None:
    neardict.register(Player)
    d, other = store.dict(domain), store.dict(domain)
    player = Player(1, Place(2, 3))
    d["alice"] = player
    assert d["alice"] is player
    assert other["alice"] == player
    assert other["alice"] is not player
    player.hp = 2
    d.save("alice")
    assert other["alice"].hp == 2
    with d.edit("alice") as edited:
        edited.tags.add("winner")
    assert player.tags == set()
    assert other["alice"].tags == {"winner"}


def test_an_entry_that_does_not_fit_its_class_does_not_make_the_dict_vanish(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, caplog: pytest.LogCaptureFixture
) -> None:
    d = store.dict(domain)
    elsewhere.set_many(
        domain, {"good": 1, "bad": {"_moobius_type": "place", "_moobius_val": {"x": 1}}, "also good": 2}
    )
    neardict.register(Place, name="place")
    d.refresh()
    assert dict(d) == {"good": 1, "also good": 2}
    assert "1 entries of the domain" in caplog.text
    assert "'bad'" in caplog.text
    with pytest.raises(neardict.UndecodableValueError):
        d["bad"]
    cache = store.dict(domain, load=False)
    assert cache.copy() == {"good": 1, "also good": 2}
    with pytest.raises(neardict.UndecodableValueError):
        cache["bad"]
    # It can be replaced, and deleted.
    d["bad"] = Place(1, 2)
    assert cache["bad"] == Place(1, 2)


def test_a_write_that_another_dict_cannot_decode_succeeds_and_is_not_shown_as_the_old_one(
    store: neardict.Store, domain: str
) -> None:
    marked = {"_moobius_type": "place", "_moobius_val": {"x": 1}}
    d, mirror, cache = store.dict(domain), store.dict(domain), store.dict(domain, load=False)
    d["key"] = "old"
    request = values.encode(marked)
    neardict.register(Place, name="place")
    from neardict import _requests

    store.write(_requests.set_value(domain, "key", request), by=d)
    for other in (mirror, cache):
        assert "key" not in dict.keys(other)
        with pytest.raises(neardict.UndecodableValueError):
            other["key"]
    assert dict(mirror) == {}


@pytest.mark.parametrize("name", [3, "", "\ud800", b"hero"])
def test_a_name_that_would_not_come_back_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a name is a str of Unicode text"):
        neardict.register(name=name)(type("Hero", (), {}))
