"""JSON text: laid out anew, nothing else changes."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neardict.cli import json_text

atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
texts = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    values.filter(lambda value: "\\ud" not in json.dumps(value) or is_text(value)),
    st.none() | st.just(2) | st.just("\t"),
    st.booleans(),
)


def is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@settings(max_examples=50)
@given(texts)
def test_every_layout_means_the_same(text: str) -> None:
    meaning = json.dumps(json.loads(text))
    for layout in (json_text.compact(text), json_text.pretty(text), json_text.readable(text)):
        assert json.dumps(json.loads(layout)) == meaning
    assert "\n" not in json_text.compact(text)
    assert json_text.pretty(text).replace("\n", "").isprintable()
    assert json_text.readable(text).isprintable()
    assert json_text.parse(text) == json.loads(text)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values.filter(is_text)))
def test_members_are_cut_out_as_they_are(mapping: dict[str, Any]) -> None:
    cut = json_text.members(json.dumps(mapping, indent=1))
    assert cut == {name: json_text.compact(json.dumps(value)) for name, value in mapping.items()}


@given(st.text(), st.text())
def test_printable_text_cannot_command_a_terminal(one: str, other: str) -> None:
    assert json_text.printable(one).isprintable()
    assert json_text.printable(one + other) == json_text.printable(one) + json_text.printable(other)


def test_numbers_keep_the_form_that_they_were_written_in() -> None:
    text = '{"a": 1.10, "b": 123456789012345678901234567890, "c": 1E+2, "d": 0.1234567890123456789}'
    assert json_text.compact(text) == text.replace(" ", "")
    assert json_text.members(text)["d"] == "0.1234567890123456789"
    assert "1E+2" in json_text.pretty(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": 1}', '{"a":1}', True),
        ('"\\u00e9"', '"é"', True),
        ("1.10", "1.1", True),
        ("1", "1.0", False),
        ("1", "true", False),
        ("null", "0", False),
    ],
)
def test_same_compares_what_is_meant(one: str, other: str, same: bool) -> None:
    assert json_text.same(one, other) is same


@pytest.mark.parametrize(
    "text",
    ["", " ", "NaN", "-Infinity", "1e999", "9" * 400, '"\\ud800"', '{"a":1', "'a'", "[" * 10**5, "\x00"],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(json_text.NotJsonError):
        json_text.parse(text)


@pytest.mark.parametrize(("text", "depth"), [("1", 0), ('"[["', 0), ("[]", 1), ('[{"a":[1]},[]]', 3)])
def test_depth_counts_what_encloses_the_innermost_value(text: str, depth: int) -> None:
    assert json_text.depth(text) == depth
