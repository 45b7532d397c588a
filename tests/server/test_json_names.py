"""Names of folders and files: below the root, reversible, one for each domain and key."""

import os
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from json_backend import seeded
from neardict_server.backends.json.names import (
    file_name,
    folder_names,
    foreign_name,
    is_shortened,
    key_of,
)

# Characters that matter to paths and to the escape, between any others.
text = st.text(
    st.one_of(
        st.sampled_from("./\\%~ aA1_-:*"), st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    ),
    min_size=1,
)
keys = text.filter(lambda key: len(key.encode()) <= 1024)
domains = text.filter(lambda domain: len(domain.encode()) <= 255)


def path(domain: str, key: str) -> PurePosixPath:
    return PurePosixPath("/root", *folder_names(domain), file_name(key))


@pytest.mark.parametrize(
    "key", ["alice", "a.b.c", "user_1-x", "two words", " padded ", "Ärger", "键", "CON", "7"]
)
def test_keys_of_letters_digits_and_inner_dots_keep_their_name(key: str) -> None:
    assert file_name(key) == f"{key}.json"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("..", "%2E%2E.json"),
        (".hidden", "%2Ehidden.json"),
        ("trailing.", "trailing%2E.json"),
        ("a/b", "a%2Fb.json"),
        ("/etc/passwd", "%2Fetc%2Fpasswd.json"),
        ("100%", "100%25.json"),
        ("%41", "%2541.json"),
        ("a@b", "a%40b.json"),
        ("\U0001f600", "%F0%9F%98%80.json"),
        ("e\u0301", "e%CC%81.json"),  # é in two characters
        ("\u212b", "%E2%84%AB.json"),  # the Angstrom sign, which normalises to Å
        ("\u1100\u1161", "%E1%84%80%E1%85%A1.json"),  # two letters that normalise to one
    ],
)
def test_other_characters_are_escaped_as_their_bytes(key: str, name: str) -> None:
    assert file_name(key) == name


def test_a_domain_is_split_at_its_dots_and_at_nothing_else() -> None:
    assert folder_names("service_1.channel_7.health bars") == ("service_1", "channel_7", "health bars")
    assert folder_names("a..b.") == ("a", "%", "b", "%")
    assert folder_names("../x") == ("%", "%", "%2Fx")
    assert folder_names("%") == ("%25",)


@seeded
@given(domains, keys)
@example(".." * 100, "..")
@example("/" * 255, "/" * 1024)
@example("." * 255, "." * 1024)
def test_no_name_leaves_the_root_or_is_too_long(domain: str, key: str) -> None:
    place = path(domain, key)
    parts = place.parts[2:]
    assert parts == (*folder_names(domain), file_name(key))  # no part holds a separator
    assert os.path.normpath(place) == str(place)
    assert all(0 < len(part.encode()) <= 255 and part.strip(".") for part in parts)
    assert not any("\0" in part or part.startswith(".") for part in parts)
    assert all(unicodedata.is_normalized("NFC", part) for part in parts)


@seeded
@given(keys)
@example("é" * 512)
def test_a_name_gives_its_key_back(key: str) -> None:
    name = file_name(key)
    assert is_shortened(name) or key_of(name) == key


@seeded
@given(st.tuples(domains, keys), st.tuples(domains, keys))
@example(("a.b", "c"), ("a", "b/c"))
@example(("a.b", "c"), ("a.b.c", "c"))
@example(("a", "x"), ("A", "x"))
@example(("a", "é"), ("a", "e\u0301"))
@example(("a..b", "x"), ("a.%.b", "x"))
@example(("a", "k" * 1024), ("a", "k" * 1023))
@example(("a", "x.json"), ("a.x.json", "x"))
def test_different_entries_have_different_files(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (path(*one) == path(*other)) == (one == other)


@seeded
@given(st.lists(domains, min_size=2, max_size=2), keys)
def test_no_file_is_in_the_place_of_a_folder(some: list[str], key: str) -> None:
    place = path(some[0], key)
    folder = PurePosixPath("/root", *folder_names(some[1]))
    assert place not in (folder, *folder.parents)


@pytest.mark.parametrize("key", ["k" * 251, "键" * 84, "é" * 512, "%" * 1024, "a" * 183 + "%" * 100])
def test_long_keys_are_shortened_between_characters(key: str) -> None:
    name = file_name(key)
    assert is_shortened(name)
    assert len(name.encode()) <= 255
    assert key_of(name) is None
    beginning = name.split("%~")[0]
    assert file_name(key)[: len(beginning)] == beginning
    assert not beginning.endswith("%")
    assert not is_shortened(file_name("k" * 250))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a@b.json", "a@b"),
        (".hidden.json", ".hidden"),
        ("100%.json", "100%"),
        ("%zz.json", "%zz"),
        ("%41.json", "%41"),
        ("%2f.json", "%2f"),
        ("%E9.json", "%E9"),
        ("a\nb.json", "a\nb"),
    ],
)
def test_a_foreign_name_stands_for_itself(name: str, key: str) -> None:
    assert key_of(name) == key
    assert file_name(key) != name
    assert foreign_name(key) == name


@pytest.mark.parametrize("name", ["a.txt", "a.json~", ".json", "json", "a.JSON", "a\udcff.json", "%00.json"])
def test_other_files_stand_for_no_key(name: str) -> None:
    assert key_of(name) is None


@seeded
@given(text)
def test_a_file_stands_for_one_key_at_most(stem: str) -> None:
    name = f"{stem}.json"
    key = key_of(name)
    if key is not None and "/" not in name and len(name.encode()) <= 255:
        assert name in (file_name(key), foreign_name(key))


@seeded
@given(keys)
@example("%41")
@example("..")
def test_a_foreign_name_is_a_name_within_the_folder(key: str) -> None:
    name = foreign_name(key)
    if name is not None:
        assert name != file_name(key)
        assert key_of(name) == key
        assert "/" not in name
        assert name.endswith(".json")
        assert len(name.encode()) <= 255


def test_letters_are_those_of_one_version_of_unicode_for_ever() -> None:
    # A letter since Unicode 14: a Python that does not know it yet must find the same file.
    assert file_name("\u2c2f") == "%E2%B0%AF.json"
