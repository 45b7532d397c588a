"""What import reads in a folder is what the json backend serves of it: the client mirrors its rules."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neardict
from command_line import CommandLine
from neardict.cli.importing import contents, names
from neardict_server.backends.json import format as json_format
from neardict_server.backends.json import names as json_names

text = st.text(
    st.one_of(st.sampled_from("./\\%~ aA1_-:*éé"), st.characters(exclude_categories=["Cs"])), min_size=1
)


@settings(max_examples=200)
@given(st.one_of(text, text.map(lambda key: key * 40)))
def test_names_of_files(key: str) -> None:
    if "\0" not in key:
        assert names.file_name(key) == json_names.file_name(key)
    for name in (key, f"{key}.json", json_names.file_name(key)):
        assert names.is_shortened(name) == json_names.is_shortened(name)
        assert names.key_of(name) == json_names.key_of(name)


@settings(max_examples=200)
@given(st.one_of(text, text.map(lambda part: part * 80)).filter(lambda part: "\0" not in part))
def test_names_of_folders(domain: str) -> None:
    folders = json_names.folder_names(domain)
    for folder, own in zip(folders, domain.split("."), strict=True):
        shortened = json_names.is_shortened(folder + json_names.SUFFIX)
        assert names.domain_part(folder) == (None if shortened else own)
        # A character has up to four bytes, and each of them is escaped with three.
        assert 12 * len(own) > json_names.MAX_NAME_BYTES or not shortened


@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize(
    "value", ["1", '{"k": 1, "_type": "x.Y"}', '{"_neardict_raw": 1}', b"\x00", "[1.10]"]
)
def test_contents_that_the_backend_writes(value: str | bytes, shortened: bool) -> None:
    data = json_format.encode("k", value, shortened=shortened)
    read = contents.read(None if shortened else "k", data)
    assert (read.value.raw if isinstance(value, bytes) else json.loads(read.value.json)) == (
        value if isinstance(value, bytes) else json.loads(value)
    )
    assert read.key == ("k" if shortened else None)
    assert not read.conversion


@pytest.mark.parametrize(
    "data",
    [
        '{"k": 1, "_type": "x.Y"}',
        '{"k": 1, "_type": "str"}',
        '{"k": 1, "_type": "a b"}',
        '{"k": 1, "_type": ""}',
        '{"k": 1, "_type": "é.Ü"}',
        '{"k": 1, "_type": "builtins.tuple"}',
        '{"k": 1, "_type": "set"}',
        '{"k": 1, "_type": 1}',
        '{"k": 1, "_type": "str", "more": 1}',
        '{"_neardict_key": "k", "_neardict_json": null}',
        '{"_neardict_key": "other", "_neardict_json": null}',
        '{"_neardict_key": 1, "_neardict_json": null}',
        '{"_neardict_raw": "!"}',
        '{"_neardict_raw": "AA==", "_neardict_json": 1}',
        '{"_neardict_new": 1}',
        '{"_neardict_raw": "AA==", "more": 1}',
        "{}",
        "",
        "NaN",
        '"\\ud800"',
        "\ufeff1",
    ],
)
def test_contents_of_every_form(data: str) -> None:
    def served() -> object:
        value = json_format.decode("k", data.encode(), shortened=False)
        return value if isinstance(value, bytes) else json.loads(value)

    def imported() -> object:
        read = contents.read("k", data.encode())
        if read.key not in (None, "k"):
            raise contents.ContentsError
        return read.value.raw if read.value.WhichOneof("kind") == "raw" else json.loads(read.value.json)

    try:
        expected = served()
    except json_format.FormatError:
        with pytest.raises(contents.ContentsError):
            imported()
    else:
        assert imported() == expected


def test_a_folder_of_the_backend_comes_over_whole(
    command: CommandLine,
    store: neardict.Store,
    domain: str,
    json_domain: str,
    json_folder: Path,
) -> None:
    entries = {
        "plain": {"a": [1.5, None]},
        "raw": b"\x00\xff",
        "%": 1,
        "../../escape": 2,
        "CON": 3,
        "é": 4,
        "e\u0301": 5,
        "x" * 1000: 6,
        "😀" * 100: b"7",
        "old": {"old": 8, "_type": "str"},
        "ours": {"_neardict_raw": "AA=="},
    }
    store.set_many(json_domain, entries)
    done = command("import", json_folder, "--domain", domain)
    assert (done.code, done.line["imported"]) == (0, len(entries))
    assert dict(store.dict(domain)) == entries
