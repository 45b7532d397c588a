"""What comes back as it was, and what is refused because it would not."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import re
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neardict
from neardict import values
from neardict.v1 import storage_pb2 as pb

from .steady import steady

texts = st.text(st.characters(codec="utf-8"), max_size=20)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
jsonable = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    """Returns whether they are equal and of the same types, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


@steady
@given(jsonable)
def test_data_of_json_types_comes_back_as_it_was(value: Any) -> None:
    message = values.encode(value)
    assert same(values.decode(message), value)
    # What travels is strict JSON, for other languages.
    json.loads(message.json, parse_constant=lambda name: pytest.fail(name))


@steady
@given(st.binary(max_size=50))
def test_bytes_come_back_as_they_were(value: bytes) -> None:
    message = values.encode(value)
    assert message.WhichOneof("kind") == "raw"
    assert values.decode(message) == value


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -(2**63) - 1, 10**300, 5e-324, 1.7976931348623157e308, -0.0, "\0\u2028\U0001f600", ""],
)
def test_extremes_survive_the_service(store: neardict.Store, domain: str, value: Any) -> None:
    store.set_value(domain, "key", value)
    assert same(store.get_value(domain, "key"), value)


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    ALICE = "alice"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Bytes(bytes):
    pass


class Point(NamedTuple):
    x: int
    y: int


class Plain:
    def __repr__(self) -> str:
        raise AssertionError("a value must not be shown")


itself: list[Any] = []
itself.append(itself)
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]

REFUSED: list[tuple[Any, str]] = [
    ((1, 2), "value is a tuple, which would come back as a list: store list(value)"),
    ({1, 2}, "value is a set, which JSON has not"),
    (frozenset(), "value is a frozenset, which JSON has not"),
    ({"a": [b"x"]}, "value['a'][0] is a bytes inside a JSON value"),
    (bytearray(b"x"), "value is a bytearray: store bytes(value)"),
    (memoryview(b"x"), "value is a memoryview: store bytes(value)"),
    (Bytes(b"x"), "value is a Bytes, which would come back as a plain bytes"),
    ({1: "a"}, "value has the key 1 of type int, which would come back as a str"),
    ({"a": {None: 1}}, "value['a'] has the key None of type NoneType"),
    ({Name.ALICE: 1}, "of type Name, which would come back as a str"),
    ({Text("a"): 1}, "value has the key 'a' of type Text"),
    (float("nan"), "value is a float without a JSON form (NaN or infinity)"),
    ([1.0, float("inf")], "value[1] is a float without a JSON form"),
    (Real("nan"), "value is a Real"),
    ("\ud800", "value holds a lone surrogate"),
    ({"a": ["\udfff"]}, "value['a'][0] holds a lone surrogate"),
    ({"\ud800": 1}, "value['\\ud800'] holds a lone surrogate"),
    ([10**5000], "value[0] is an int with too many digits"),
    (datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "value is a datetime: register its class"),
    (datetime.timedelta(1), "value is a timedelta"),
    (decimal.Decimal("1.5"), "value is a Decimal"),
    (fractions.Fraction(1, 2), "value is a Fraction"),
    (uuid.UUID(int=0), "value is a UUID"),
    (1j, "value is a complex"),
    (Plain(), "value is a Plain: register its class with neardict.register"),
    (Plain, "value is a type"),
    (len, "value is a builtin_function_or_method"),
    (Color.RED, "value is a Color: store its value or its name"),
    ([Level.LOW], "value[0] is a Level: store its value"),
    (Name.ALICE, "value is a Name: store its value"),
    (Text("a"), "value is a Text, which would come back as a plain str: store str(value)"),
    (Number(1), "value is a Number, which would come back as a plain int"),
    (Real(1), "value is a Real, which would come back as a plain float"),
    (Point(1, 2), "value is a Point"),
    (collections.OrderedDict(a=1), "value is a OrderedDict, which would come back as a plain dict"),
    (
        {"a": collections.defaultdict(int)},
        "value['a'] is a defaultdict, which would come back as a plain dict",
    ),
    (collections.Counter("a"), "value is a Counter"),
    (collections.deque([1]), "value is a deque"),
    ({"a": 1}.keys(), "value is a dict_keys"),
    (itself, "nests too deep, or contains itself"),
    (deep, "nests too deep, or contains itself"),
    ({"_moobius_type": "NoneType", "_moobius_val": 1}, "which are reserved"),
]


@pytest.mark.parametrize(
    ("value", "problem"), REFUSED, ids=[f"{n} {problem[:40]}" for n, (_, problem) in enumerate(REFUSED)]
)
def test_what_would_come_back_as_something_else_is_refused_with_its_type_and_place(
    value: Any, problem: str
) -> None:
    with pytest.raises(neardict.UnsupportedValueError) as caught:
        values.encode(value)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("cannot store this value: value")
    assert len(str(caught.value)) < 300
    assert type(caught.value) is neardict.UnsupportedValueError
    assert isinstance(caught.value, TypeError)


@steady
@given(jsonable, st.sampled_from([(1,), {1}, float("nan"), Level.LOW, b"x", "\ud800", object()]), st.data())
def test_what_cannot_be_stored_is_found_wherever_it_is(value: Any, bad: Any, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        value = {"name": value} if data.draw(st.booleans()) else [value]
    place = "['a'][1]['b']"
    with pytest.raises(neardict.UnsupportedValueError) as caught:
        values.encode({"z": value, "a": [value, {"b": bad}]})
    assert f"value{place} " in str(caught.value)


def test_many_references_to_one_object_are_no_cycle() -> None:
    shared = [1, {"a": 2}]
    assert values.decode(values.encode([shared, shared, {"b": shared}])) == [shared, shared, {"b": shared}]


def test_a_bulk_write_names_the_key_and_stores_nothing(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    for write in (d.update, lambda new: store.set_many(domain, new)):
        with pytest.raises(
            neardict.UnsupportedValueError, match=r"value\['x'\] is a set.*under the key 'bad'"
        ):
            write({"good": 1, "bad": {"x": {1}}, "also good": 2})
    assert list(store.all_keys(domain)) == []


def test_text_that_python_cannot_read_as_json_is_undecodable_and_not_shown() -> None:
    for text in ("", "{", "secret", "[" * 100_000):
        with pytest.raises(neardict.UndecodableValueError) as caught:
            values.decode(pb.Value(json=text))
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(neardict.UndecodableValueError):
        values.decode(pb.Value())


def test_what_the_service_refuses_is_an_argument_at_fault_or_a_limit(
    store: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    nested: Any = []
    for _ in range(100):
        nested = [nested]
    for value in (nested, 10**400):
        with pytest.raises(neardict.InvalidArgumentError):
            d["key"] = value
    with pytest.raises(neardict.LimitExceededError, match="limit is 100000"):
        d["key"] = "x" * 100_001
    with pytest.raises(neardict.LimitExceededError):
        d["key"] = b"x" * 100_001
    assert dict(d) == {}


@steady
@given(st.lists(jsonable | st.binary(max_size=8), max_size=5))
def test_values_decoded_together_are_what_each_is_alone(several: list[Any]) -> None:
    messages = [values.encode(value) for value in several]
    assert same(values.decode_all(messages), several)


@steady
@given(
    st.lists(st.sampled_from(["1", "[1", "2]", ' {"a": 1}\n', "1,2", '"x', '":1', "", "\ufeff1", "[" * 9000]))
)
def test_text_that_is_no_json_harms_no_value_that_it_is_decoded_with(several: list[str]) -> None:
    for text, value in zip(several, values.decode_all([pb.Value(json=t) for t in several]), strict=True):
        if isinstance(value, neardict.UndecodableValueError):
            with pytest.raises(neardict.UndecodableValueError, match=re.escape(str(value))):
                values.decode(pb.Value(json=text))
        else:
            assert same(value, values.decode(pb.Value(json=text)))


@neardict.register
@dataclasses.dataclass
class Place:
    x: int
    y: int


def test_instances_of_registered_classes_are_decoded_among_others() -> None:
    plain, instance = {"a": 1}, Place(1, 2)
    messages = [values.encode(value) for value in (plain, instance, b"raw")]
    assert values.decode_all(messages) == [plain, instance, b"raw"]
