"""Indenting and cutting JSON text, with every number and name as it was written."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from json_backend import seeded
from neardict_server.backends.json.text import indented, members, unindented

numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["9007199254740993", "0.1234567890123456789012", "-0", "-0.0", "1E+5", "1e-400", "10e0"]),
)
strings = st.text(st.characters(exclude_categories=["Cs"])).flatmap(
    lambda s: st.sampled_from([json.dumps(s), json.dumps(s, ensure_ascii=False)])
)
white = st.text(" \t\r\n", max_size=3)


def _joined(opening: str, closing: str) -> Any:
    return lambda parts: opening + ",".join(parts) + closing


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    spaced = st.tuples(white, inner, white).map("".join)
    name = st.tuples(white, st.one_of(strings, st.just('"twice"')), white).map("".join)
    member = st.tuples(name, st.just(":"), spaced).map("".join)
    return st.one_of(
        st.lists(spaced, max_size=4).map(_joined("[", "]")),
        st.lists(member, max_size=4).map(_joined("{", "}")),
        white.map(lambda w: f"[{w}]"),
        white.map(lambda w: f"{{{w}}}"),
    )


texts = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["null", "true", "false"])), _containers
).filter(lambda text: "inf" not in text)


def tokens(text: str) -> Any:
    """Returns what the text says, to the last digit and with repeated names."""
    return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=lambda pairs: ("object", pairs))


@seeded
@given(texts)
def test_an_indent_changes_nothing_but_white_space(text: str) -> None:
    assert tokens(indented(text, orjson.loads(text))) == tokens(text)
    assert tokens(unindented(indented(text, orjson.loads(text)))) == tokens(text)
    assert tokens(unindented(text)) == tokens(text)


@seeded
@given(
    st.recursive(
        st.one_of(st.integers(0, 9), st.text("aé\U0001f600", max_size=2)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_the_indent_is_that_of_the_original(value: Any) -> None:
    expected = json.dumps(value, indent=2, ensure_ascii=False)
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(value, separators=separators, ensure_ascii=False)
        assert indented(text, value) in (expected, text if len(expected) > 4096 else expected)


@seeded
@given(texts)
def test_members_are_cut_as_they_are_written(text: str) -> None:
    wrapped = f'{{ "a" : {text} ,"\\u0062":[1, {{"c": 2}}], "{{,:\\"": 1.50}}'
    cut = members(wrapped)
    assert list(cut) == ["a", "b", '{,:"']
    assert tokens(cut["a"]) == tokens(text)
    assert (cut["b"], cut['{,:"']) == ('[1, {"c": 2}]', "1.50")
    assert members(" {} ") == {}


@pytest.mark.parametrize("depth", [64, 300, 500])
def test_deep_values_do_not_become_mostly_white_space(depth: int) -> None:
    text = "[" * depth + ",".join(["1"] * 100_000) + "]" * depth
    result = indented(text, orjson.loads(text))
    assert len(result) < 9 * len(text)
    assert tokens(result) == tokens(text)


def test_an_indent_costs_no_more_than_one_blank_for_each_name_after_reading() -> None:
    text = json.dumps([{"": n} for n in range(1000)], separators=(",", ":"))
    back = unindented(indented(text, orjson.loads(text)))
    assert len(back) == len(text) + 1000
