"""What is in the files: bare values, envelopes, and what older versions of the Moobius SDK wrote."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from json_backend import seeded
from neardict_server.backends.json.format import FormatError, decode, encode, key_in
from neardict_server.backends.json.generations import is_bare, older_type
from neardict_server.testing.contract import meaning

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["_neardict_raw", "_neardict_json", "_neardict_key", "_type", "key", "x"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def read(data: str, key: str = "key") -> Any:
    value = decode(key, data.encode(), shortened=False)
    assert isinstance(value, str)
    return json.loads(value)


def test_a_value_is_bare_indented_and_readable() -> None:
    assert encode("alice", '{"name":"Ärger","hp":[5]}', shortened=False).decode() == (
        '{\n  "name": "Ärger",\n  "hp": [\n    5\n  ]\n}\n'
    )


def test_raw_bytes_are_in_an_envelope() -> None:
    data = encode("key", b"\0\xff", shortened=False)
    assert json.loads(data) == {"_neardict_raw": "AP8="}
    assert decode("key", data, shortened=False) == b"\0\xff"


def test_a_file_whose_name_does_not_tell_the_key_holds_it() -> None:
    for value in ("1", '{"_neardict_raw": "AA=="}', b"\0"):
        data = encode("kéy" * 100, value, shortened=True)
        assert key_in(data) == "kéy" * 100
        assert decode("kéy" * 100, data, shortened=True) == value
        with pytest.raises(FormatError, match="another key"):
            decode("other", data, shortened=True)
    with pytest.raises(FormatError, match="lacks"):
        decode("key", b"1", shortened=True)
    with pytest.raises(FormatError, match="lacks"):
        key_in(b'{"_neardict_json": 1}')


@seeded
@given(
    st.one_of(json_values.map(json.dumps), st.binary(max_size=50)),
    st.sampled_from(["key", "_type", "x"]),
    st.booleans(),
)
def test_every_value_comes_back(value: str | bytes, key: str, shortened: bool) -> None:
    back = decode(key, encode(key, value, shortened=shortened), shortened=shortened)
    if isinstance(value, bytes):
        assert back == value
    else:
        assert isinstance(back, str)
        assert json.loads(back) == json.loads(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"_neardict_raw": "AA=="}',
        '{"_neardict_json": 1, "_neardict_key": "key"}',
        '{"_neardict_anything": 1.0}',
        '{"\\u005fneardict_raw": "AA=="}',
        '{"key": 1.50, "_type": "dict"}',
        '{"key": {}, "_type": "game.Player"}',
        '{"_type": "int", "key": 1, "key": 2}',
    ],
)
def test_a_value_that_looks_like_something_else_is_wrapped(text: str) -> None:
    data = encode("key", text, shortened=False)
    assert json.loads(data).keys() == {"_neardict_json"}
    assert meaning(decode("key", data, shortened=False)) == meaning(text)


@pytest.mark.parametrize(
    "kind", ["dict", "builtins.dict", "list", "int", "NoneType", "builtins.NoneType", "bool"]
)
def test_an_older_file_of_a_plain_value_gives_the_value(kind: str) -> None:
    assert read(json.dumps({"key": {"a": [1]}, "_type": kind}, indent=4)) == {"a": [1]}
    assert read(json.dumps({"_type": kind, "key": None})) is None


def test_an_older_file_keeps_numbers_as_written() -> None:
    data = b'{"key": {"n": 0.1234567890123456789012, "n": 9007199254740993}, "_type": "dict"}'
    assert decode("key", data, shortened=False) == '{"n": 0.1234567890123456789012, "n": 9007199254740993}'


@pytest.mark.parametrize("kind", ["Character", "moobius.types.Character", "os.system"])
def test_an_older_file_of_a_dataclass_gives_markers_and_builds_nothing(kind: str) -> None:
    expected = {"_moobius_type": kind, "_moobius_val": {"name": "Alice"}}
    assert read(json.dumps({"key": {"name": "Alice"}, "_type": kind})) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"other": 1, "_type": "dict"},
        {"key": 1, "_type": "dict", "more": 2},
        {"key": 1},
        {"_type": "dict"},
        {"key": 1, "_type": 5},
        {"key": 1, "_type": "a b"},
        {"key": 1, "_type": "game."},
        {"key": 1, "_type": ""},
        [{"key": 1, "_type": "dict"}],
    ],
)
def test_what_is_only_similar_to_an_older_file_is_a_value(value: Any) -> None:
    assert older_type("key", value) is None
    assert read(json.dumps(value)) == value


def test_a_type_is_bare_if_json_has_it() -> None:
    assert is_bare("builtins.tuple")
    assert not is_bare("game.dict")


def test_what_an_editor_adds_does_no_harm() -> None:
    assert read('\ufeff{"a": 1}\r\n') == {"a": 1}
    assert decode("key", b'\r\n {"a":\r\n\t1}\n\n', shortened=False) == '{"a":1}'
    assert decode("key", '"\u2028\u00a0"'.encode(), shortened=False) == '"\u2028\u00a0"'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b'{"a": 1', "is not JSON at line 1"),
        (b'{"a": 1}\n}', "is not JSON at line 2 column 1"),
        (b"{'secret': 1}", "is not JSON"),
        (b'["\xc3\xa9", NaN]', "NaN or Infinity.* at line 1 column 7|NaN or Infinity at line 1"),
        (b"-Infinity", "NaN or Infinity"),
        (b"1e400", "is not JSON"),
        (b'"\\ud800"', "is not JSON"),
        (b'"secret\xff"', "UTF-8"),
        ('"secret"'.encode("utf-16"), "UTF-8"),
        (b"[" * 5000, "is not JSON"),
        (b'{"_neardict_raw": "secret!"}', "base64"),
        (b'{"_neardict_raw": 5}', "envelope without"),
        (b'{"_neardict_other": "secret"}', "envelope without"),
        (b'{"_neardict_raw": "", "_neardict_json": "secret"}', "envelope without"),
        (b'{"_neardict_key": "key"}', "envelope without"),
    ],
)
def test_what_holds_no_value_is_refused_without_quoting_it(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        decode("key", data, shortened=False)
    assert "secret" not in str(caught.value)


@seeded
@given(
    st.one_of(
        st.binary(max_size=100),
        st.text('{}[]",:\\ue1_neardictkyjso ', max_size=60).map(str.encode),
        json_values.map(lambda value: json.dumps(value).encode()),
    ),
    st.booleans(),
)
def test_whatever_is_in_a_file_gives_a_value_or_says_why_not(data: bytes, shortened: bool) -> None:
    try:
        value = decode("key", data, shortened=shortened)
    except FormatError:
        return
    if isinstance(value, str):
        json.loads(value)
