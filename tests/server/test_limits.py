"""What the service takes for JSON, held to Python's own parser; and times, to and from the contract's."""

import json
import math
from typing import Any
from unittest import mock

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neardict_server import json_text, limits, messages
from neardict_server.errors import InvalidRequestError, ValueTooLargeError

DEPTH = 5
LIMITS = limits.Limits(max_value_bytes=10_000, max_json_depth=DEPTH)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**1030), 2**1030)
    | st.floats()
    # Surrogates too, which JSON can only escape.
    | st.text(st.characters(exclude_categories=[]))
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
# Text that is nearly JSON.
FRAGMENTS = st.sampled_from(
    [
        *'[]{},:"\\/u01-+.eE \n\t\f\0é\ufeff',
        "d83d",
        "de00",
        "309",
        "true",
        "null",
        "NaN",
        "Infinity",
        '"a"',
        '"a":',
    ]
)
NEARLY = st.lists(FRAGMENTS, max_size=10).map("".join)
FEW = settings(max_examples=500, deadline=None, derandomize=True)


class NotAllowedError(ValueError):
    pass


def refuse(constant: str) -> None:
    raise NotAllowedError(constant)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value.values()]
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def fits_a_double(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        return all(map(fits_a_double, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return False
    return True


def is_utf8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def expected(text: str) -> bool:
    """Returns whether the contract allows the text, as Python's parser and the rules above see it."""
    try:
        value = json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return depth(value) <= DEPTH and fits_a_double(value) and is_utf8(value)


def accepted(text: str) -> bool:
    """Returns whether it is, as JSON of few parts, and as such of many."""
    answers = set()
    for many in (json_text.MANY_CONTAINERS, -1):
        with mock.patch.object(json_text, "MANY_CONTAINERS", many):
            try:
                limits.check_content(text, LIMITS)
                answers.add(True)
            except InvalidRequestError as error:
                if error.reason != "INVALID_VALUE":
                    raise
                answers.add(False)
    (answer,) = answers
    return answer


@FEW
@given(TREES, st.booleans(), st.none() | st.integers(0, 3))
def test_what_python_writes_is_accepted_if_the_contract_allows_it(
    tree: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(tree, ensure_ascii=ascii_only or not is_utf8(tree), indent=indent)
    assert accepted(text) == expected(text)


@FEW
@given(NEARLY | st.text())
@example("\ufeff1")
@example('"\\ud83d\\ude00"')
@example('"\\ude00\\ud83d"')
@example('{"a":1,"a":NaN}')
@example("-0")
@example("2" + "0" * 308)
@example("1" + "0" * 308)
@example(str(int(float.fromhex("0x1.fffffffffffffp+1023"))))
def test_any_text_is_accepted_exactly_if_python_and_the_rules_agree(text: str) -> None:
    assert accepted(text) == expected(text)


@FEW
@given(TREES, st.booleans(), st.none() | st.integers(0, 3))
@example(["[[", '"[', "\\", '\\"]', [{"}": '{"'}]], True, None)
def test_depth_of_whatever_python_writes(tree: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(tree, ensure_ascii=ascii_only or not is_utf8(tree), indent=indent)
    assert json_text.depth(text) == depth(tree)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[[],{"b":[]},'])
@pytest.mark.parametrize("count", [DEPTH - 1, DEPTH, DEPTH + 1, 200])
def test_depth_is_counted_in_arrays_and_objects(opening: str, count: int) -> None:
    text = opening * count + "1" + ("}" if opening.startswith("{") else "]") * count
    assert accepted(text) == (depth(json.loads(text)) <= DEPTH)


@FEW
@given(st.text(max_size=5000) | st.binary(max_size=12_000))
@example("é" * 4999)
@example(b"x" * 10_000)
@example(b"x" * 10_001)
def test_size_is_counted_in_bytes(data: str | bytes) -> None:
    value = json.dumps(data, ensure_ascii=False) if isinstance(data, str) else data
    size = len(value.encode()) if isinstance(value, str) else len(value)
    if size <= LIMITS.max_value_bytes:
        limits.check_value_size(value, LIMITS)
        return
    with pytest.raises(ValueTooLargeError) as caught:
        limits.check_value_size(value, LIMITS)
    assert caught.value.metadata == {"size": str(size), "limit": "10000"}


@FEW
@given(st.text(), st.sampled_from([limits.check_domain, limits.check_key]))
@example("é" * 127, limits.check_domain)
@example("é" * 128, limits.check_domain)
@example("k" * 1024, limits.check_key)
@example("k" * 1025, limits.check_key)
def test_names_are_counted_in_bytes(text: str, check: Any) -> None:
    limit = 255 if check is limits.check_domain else 1024
    if text and "\0" not in text and len(text.encode()) <= limit:
        check(text)
        return
    with pytest.raises(InvalidRequestError):
        check(text)


@FEW
@given(st.integers(0, 2**53 - 1))
def test_a_timestamp_keeps_every_microsecond(microseconds: int) -> None:
    timestamp = messages.to_timestamp(microseconds)
    assert timestamp.ToMicroseconds() == microseconds
    assert 0 <= timestamp.nanos < 10**9


@FEW
@given(st.integers(1, limits.MAX_TTL))
def test_a_duration_keeps_every_microsecond(microseconds: int) -> None:
    duration = duration_pb2.Duration()
    duration.FromMicroseconds(microseconds)
    assert messages.from_duration(duration) == microseconds
    limits.check_ttl(microseconds)


@FEW
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
@example(0, 1)
@example(0, 999_999_999)
@example(0, 1_000_000_000)
@example(0, 0)
@example(1, -1)
@example(limits.MAX_TTL // 10**6, 0)
@example(limits.MAX_TTL // 10**6, 1)
def test_a_duration_is_a_ttl_or_refused_and_never_becomes_shorter(seconds: int, nanos: int) -> None:
    valid = abs(nanos) < 10**9 and seconds * nanos >= 0
    duration = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    if not valid or not 0 < seconds * 10**9 + nanos <= limits.MAX_TTL * 1000:
        with pytest.raises(InvalidRequestError):
            limits.check_ttl(messages.from_duration(duration))
        return
    ttl = messages.from_duration(duration)
    limits.check_ttl(ttl)
    assert 0 <= ttl * 1000 - (seconds * 10**9 + nanos) < 1000


def test_the_longest_ttl_ends_in_a_year_that_a_timestamp_can_hold() -> None:
    end = messages.to_timestamp(2**53 - 1 + limits.MAX_TTL)
    assert end.seconds < timestamp_pb2.Timestamp(seconds=253402300799).seconds
