"""Values, bad and odd, at the served binary: refused, or kept with their meaning."""

import json
from typing import Any

import grpc
import pytest

from neardict.v1 import storage_pb2 as pb
from places import INVALID, Place, get, put, refused, write
from wire import Refusal, ask

LIMIT = 1024 * 1024


def nested(depth: int, opening: str = "[", inner: str = "") -> str:
    closing = {"[": "]", '{"a":': "}"}[opening]
    return opening * depth + inner + closing * depth


NOT_JSON = [
    *("", " ", "nul", "NULL", "True", "'a'", "a", "1 2", "[1,]", '{"a":1,}', "{a:1}", "[1", '{"a"', '{"a":}'),
    *("01", "+1", "1.", ".5", "1e", "0x1", "1_000", "- 1", "NaN", "nan", "Infinity", "-Infinity", "[NaN]"),
    *("1e400", "-1e400", '{"a": [1e309]}', "9" * 310, "9" * 10_000, "1" + "0" * 309),
    *('"\t"', '"\n"', '"\\x41"', '"\\u12"', '"\\', '"a', '"\\ud800"', '"\\udc00\\ud800"', '["\\udfff"]'),
    *("\ufeff1", "\u00a01", "\u20281", "\0", "1\0", "\x0b1", "// 1\n1", "/* */1", "#1\n1", "<a/>"),
    *(nested(65), nested(65, '{"a":', "1"), nested(1100), nested(100_000), "[" * 100_000, '{"a":' * 100_000),
    nested(32, '{"a":', nested(33)),
]


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: repr(text[:20]) + str(len(text)))
def test_what_is_not_json_as_the_contract_has_it_is_refused(place: Place, text: str) -> None:
    request = write("never", pb.Value(json=text))
    assert refused(place, "SetValue", request) == (INVALID, "INVALID_VALUE")
    assert not get(place, "never").found


JSON = [
    *(
        "null",
        "true",
        "0",
        "-0",
        "-0.0",
        "1e-400",
        "1e308",
        "-1.7976931348623157e308",
        "0.1",
        "1E+2",
        "5e-324",
    ),
    *("9007199254740993", "-9007199254740993", "18446744073709551616", "9" * 300, "0.30000000000000000001"),
    *('""', '"\\u0000"', '"\\ud83d\\ude00"', '"\u2028\U0001f600\x7f\ufeff"', '"\\/"', '"[[[[{{{{"'),
    *("[]", "{}", '{"":0}', '{"a":1,"b":{"a":2}}', '{"b":1,"a":2}'),
    *(nested(64), nested(64, '{"a":', "1"), nested(32, '{"a":', nested(32)), "[" + "[]," * 1000 + "[]]"),
]


@pytest.mark.parametrize("text", JSON, ids=lambda text: repr(text[:20]) + str(len(text)))
def test_json_comes_back_with_its_meaning(place: Place, text: str) -> None:
    put(place, "json", pb.Value(json=text))
    if place.keeps:
        assert meaning(get(place, "json").entry.value.json) == meaning(text)


def meaning(text: str) -> Any:
    """Returns what is equal only if nothing but white space differs: not even the form of a number."""
    return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=tuple)


def test_a_value_of_the_limit_is_kept_and_one_byte_more_is_refused(place: Place) -> None:
    exhausted = (grpc.StatusCode.RESOURCE_EXHAUSTED, "VALUE_TOO_LARGE")
    for value in (
        pb.Value(raw=b"\xff" * LIMIT),
        pb.Value(json='"' + "a" * (LIMIT - 2) + '"'),
        pb.Value(json='"' + "é" * (LIMIT // 2 - 1) + '"'),
        pb.Value(json='"' + "\U0001f600" * (LIMIT // 4 - 1) + '  "'),
    ):
        put(place, "large", value)
        if place.keeps:
            assert get(place, "large").entry.value == value
        kind = value.WhichOneof("kind")
        larger = pb.Value(raw=value.raw + b"x") if kind == "raw" else pb.Value(json=value.json + " ")
        assert refused(place, "SetValue", write("large", larger)) == exhausted
        if place.keeps:
            assert get(place, "large").entry.value == value


def test_the_refusal_of_a_large_value_tells_size_and_limit(place: Place) -> None:
    answer = ask(place.channel, "SetValue", write("large", pb.Value(raw=b"x" * (LIMIT + 10))))
    assert isinstance(answer, Refusal)
    assert answer.metadata == {"size": str(LIMIT + 10), "limit": str(LIMIT)}


def test_a_message_far_over_the_limit_is_refused_by_grpc_itself(place: Place) -> None:
    for value in (pb.Value(raw=b"x" * 4 * LIMIT), pb.Value(json='"' + "x" * 8 * LIMIT + '"')):
        answer = ask(place.channel, "SetValue", write("large", value))
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
