"""Domains and keys, bad and odd, at the served binary: refused, or kept apart and inside the data folder."""

from pathlib import Path

import pytest

from neardict.v1 import storage_pb2 as pb
from places import DOMAIN, INVALID, Place, get, put, refused, write
from wire import Refusal, ask, text_field

BAD_NAMES = {
    "empty": "",
    "NUL": "\0",
    "inner NUL": "a\0b",
    "NUL at the end": "a\0",
}


@pytest.mark.parametrize("text", [*BAD_NAMES.values(), "d" * 256, "é" * 128, "\U0001f600" * 64], ids=repr)
def test_a_bad_domain_is_refused(place: Place, text: str) -> None:
    for method, request in (
        ("GetValue", pb.GetValueRequest(domain=text, key="k")),
        ("SetValue", write("k", pb.Value(json="1"), domain=text)),
        ("DeleteKey", pb.DeleteKeyRequest(domain=text, key="k")),
        ("AllKeys", pb.AllKeysRequest(domain=text)),
    ):
        assert refused(place, method, request) == (INVALID, "INVALID_DOMAIN"), method


@pytest.mark.parametrize("text", [*BAD_NAMES.values(), "k" * 1025, "é" * 513, "\U0001f600" * 257], ids=repr)
def test_a_bad_key_is_refused(place: Place, text: str) -> None:
    for method, request in (
        ("GetValue", pb.GetValueRequest(domain=DOMAIN, key=text)),
        ("SetValue", write(text, pb.Value(json="1"))),
        ("DeleteKey", pb.DeleteKeyRequest(domain=DOMAIN, key=text)),
    ):
        assert refused(place, method, request) == (INVALID, "INVALID_KEY"), method
    if text:
        answer = ask(place.channel, "AllKeys", pb.AllKeysRequest(domain=DOMAIN, prefix=text))
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.reason, answer.metadata) == (INVALID, "INVALID_KEY", {"field": "prefix"})


@pytest.mark.parametrize("character", ["k", "é", "键", "\U0001f600", "%", "/", "."], ids=repr)
def test_names_of_exactly_the_limit_are_accepted(place: Place, character: str) -> None:
    width = len(character.encode())
    domain = character * (255 // width) + "d" * (255 % width)
    key = character * (1024 // width) + "k" * (1024 % width)
    assert (len(domain.encode()), len(key.encode())) == (255, 1024)
    put(place, key, pb.Value(json='"at the limit"'), domain=domain)
    if place.keeps:
        assert get(place, key, domain).entry.value.json == '"at the limit"'
        listed = ask(place.channel, "AllKeys", pb.AllKeysRequest(domain=domain))
        assert isinstance(listed, bytes)
        assert list(pb.AllKeysResponse.FromString(listed).keys) == [key]


ODD_NAMES = [
    *(".", "..", "../..", "../neighbour", "../../working-folder/x", "a/../../neighbour", "..\\..\\x"),
    *("/", "/etc/passwd", "//", "a//b", "C:\\x", "\\\\host\\share", "~", "~root"),
    *("CON", "con", "NUL", "nul.json", "COM1", "LPT9.txt", "aux ", "a.", "a ", " a", ".a", "-rf"),
    *("%", "%%", "%2F", "%2e%2e", "%00", "100%", "*", "?", "[a]", "{a}", "{a", "a}", "a:b", "a|b", "<a>"),
    *("\n", "\r\n", "\t", "\x01", "\x7f", "\x80", "'", '"', "`", "$(x)", "; DROP TABLE entries;--"),
    *("é", "e\u0301", "\u212b", "\u00c5", "\ufeff", "\u202e", "\ufffd", "\uffff", "\U0001f600"),
    *("\U0010ffff", "a", "A", "ß", "SS", "ss", "ı", "i", "İ", "I"),
    *("key.json", "key.json.tmp", ".neardict", "neardict.sqlite3"),
]


def odd_names(around: Path) -> list[str]:
    return [*ODD_NAMES, str(around / "neighbour"), str(around / "data" / "neardict.sqlite3")]


def test_odd_keys_are_kept_apart_and_inside(place: Place) -> None:
    keys = odd_names(place.around)
    for number, key in enumerate(keys):
        put(place, key, pb.Value(json=str(number)), domain="odd.keys")
    if not place.keeps:
        return
    for number, key in enumerate(keys):
        assert get(place, key, "odd.keys").entry.value.json == str(number), key
    listed = ask(place.channel, "AllKeys", pb.AllKeysRequest(domain="odd.keys"))
    assert isinstance(listed, bytes)
    assert sorted(pb.AllKeysResponse.FromString(listed).keys) == sorted(keys)
    for key in keys:
        answer = ask(place.channel, "DeleteKey", pb.DeleteKeyRequest(domain="odd.keys", key=key))
        assert isinstance(answer, bytes)
        assert pb.DeleteKeyResponse.FromString(answer).existed, key


def test_odd_domains_are_kept_apart_and_inside(place: Place) -> None:
    domains = [f"{name}{suffix}" for name in odd_names(place.around) for suffix in ("", ".x", "/x")]
    for number, domain in enumerate(domains):
        put(place, "key", pb.Value(json=str(number)), domain=domain)
    if not place.keeps:
        return
    for number, domain in enumerate(domains):
        assert get(place, "key", domain).entry.value.json == str(number), domain
    for domain in domains:
        answer = ask(place.channel, "DeleteKey", pb.DeleteKeyRequest(domain=domain, key="key"))
        assert isinstance(answer, bytes)
        assert pb.DeleteKeyResponse.FromString(answer).existed, domain


INVALID_UTF8 = {
    "lone byte": b"\xff",
    "lone high surrogate": b"\xed\xa0\x80",
    "lone low surrogate": b"\xed\xbf\xbf",
    "pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "overlong NUL": b"\xc0\x80",
    "overlong slash": b"\xe0\x80\xaf",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut off": b"\xe9\x94",
}


@pytest.mark.parametrize("data", INVALID_UTF8.values(), ids=INVALID_UTF8.keys())
def test_text_that_is_not_utf8_is_refused(place: Place, data: bytes) -> None:
    domain, key = text_field(1, b"d"), text_field(2, b"k")
    value = text_field(3, text_field(1, b"1"))
    for method, message in (
        ("GetValue", text_field(1, data) + key),
        ("GetValue", domain + text_field(2, data)),
        ("SetValue", text_field(1, data) + key + value),
        ("SetValue", domain + text_field(2, data) + value),
        ("SetValue", domain + key + text_field(3, text_field(1, b'"' + data + b'"'))),
        ("SetValue", domain + key + value + text_field(7, data)),
        ("DeleteKey", domain + text_field(2, data)),
        ("AllKeys", text_field(1, data)),
        ("AllKeys", domain + text_field(2, data)),
    ):
        assert refused(place, method, message) == (INVALID, "INVALID_REQUEST"), method
