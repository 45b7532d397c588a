"""Folders that we share with the Moobius SDK itself, of which the original classes run here."""

import json
import sys
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moobius.database.json_database import JSONDatabase  # type: ignore[import-untyped]

from json_backend import DOMAIN, entries_of, entry_of, keys_of, opened
from neardict_server.backends.json import JsonBackend


@dataclass
class Player:
    name: str
    hp: int


VALUES: dict[str, Any] = {
    "alice": {"name": "Ärger \u2028 \U0001f600", "hp": [1, 2.5, None, True]},
    "a.b": "text",
    "two words": [],
    "user_1-x": {},
    "none": None,
    "big": 2**70,
    "é": -0.0,
    "a@b.example": 1,
    "100%": 2,
    ".hidden": 4,
}


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[JsonBackend]:
    async with opened(tmp_path) as backend:
        yield backend


@pytest.fixture
def original(tmp_path: Path) -> Any:
    return JSONDatabase(domain=DOMAIN, root_dir=str(tmp_path))


async def test_what_the_sdk_wrote_is_served_as_it_is(backend: JsonBackend, original: Any) -> None:
    for key, value in VALUES.items():
        original.set_value(key, value)
    assert await keys_of(backend) == sorted(VALUES)
    values, unreadable = await entries_of(backend)
    assert {key: json.loads(value) for key, value in values.items()} == VALUES
    assert unreadable == []
    for key, value in VALUES.items():
        assert json.loads((await entry_of(backend, key)).value) == value


async def test_the_sdk_reads_what_we_wrote_where_it_wrote_itself(backend: JsonBackend, original: Any) -> None:
    for key in VALUES:
        original.set_value(key, "old")
        await backend.set_value(DOMAIN, key, json.dumps(VALUES[key]))
        assert original.get_value(key) == (True, VALUES[key])
    assert sorted(original.all_keys()) == sorted(VALUES)
    for key in VALUES:
        original.delete_key(key)
    assert await keys_of(backend) == []


async def test_the_sdk_reads_new_files_of_ours_if_their_names_are_plain(
    backend: JsonBackend, original: Any
) -> None:
    plain = [key for key in VALUES if not set(key) & set("@%") and key != ".hidden"]
    for key in plain:
        await backend.set_value(DOMAIN, key, json.dumps(VALUES[key]))
        assert original.get_value(key) == (True, VALUES[key])
    assert sorted(original.all_keys()) == sorted(plain)


async def test_a_name_of_the_sdk_that_is_our_escape_of_another_key_is_that_key(
    backend: JsonBackend, original: Any
) -> None:
    original.set_value("50%25", 3)
    assert await keys_of(backend) == ["50%"]


async def test_a_file_of_the_sdk_is_written_as_the_sdk_indents_it(
    backend: JsonBackend, original: Any, tmp_path: Path
) -> None:
    value = {"a": [1, {"b": {}}], "c": [], "d": "e"}
    original.set_value("alice", value)
    (file,) = tmp_path.rglob("alice.json")
    before = file.read_text()
    await backend.set_value(DOMAIN, "alice", json.dumps(value))
    assert file.read_text() == before + "\n"


async def test_dataclasses_of_the_sdk_are_markers_both_ways(
    backend: JsonBackend, original: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK finds classes by importing what stored text names.
    module = types.ModuleType("player_module")
    monkeypatch.setattr(module, "Player", Player, raising=False)
    monkeypatch.setattr(Player, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    party = [Player("Alice", 5), Player("Bob", 6)]
    original.set_value("alice", party[0])
    original.set_value("party", party)
    stored = await entry_of(backend, "alice")
    marked = {"_moobius_type": "player_module.Player", "_moobius_val": {"name": "Alice", "hp": 5}}
    assert json.loads(stored.value) == marked
    assert json.loads((await entry_of(backend, "party")).value)[0] == marked
    await backend.set_value(DOMAIN, "copy", stored.value)
    assert original.get_value("copy") == (True, Player("Alice", 5))
    assert original.get_value("party") == (True, party)


async def test_each_write_of_the_sdk_beside_us_is_a_new_revision(backend: JsonBackend, original: Any) -> None:
    revisions = []
    for number in range(50):
        original.set_value("alice", number % 10)
        entry = await entry_of(backend, "alice")
        assert entry.value == str(number % 10)
        revisions.append(entry.revision)
    assert revisions == sorted(set(revisions))


# As versions 1.0.0, 1.1.5 and 1.3.0 write: json.dump(..., indent=4), with and without ensure_ascii.
OLDER: dict[str, tuple[str, Any]] = {
    "alice": (
        '{\n    "alice": {\n        "name": "\\u00c4rger"\n    },\n    "_type": "Character"\n}',
        {"_moobius_type": "Character", "_moobius_val": {"name": "Ärger"}},
    ),
    "bob": (
        '{\n    "bob": {\n        "name": "Ärger"\n    },\n    "_type": "moobius.types.Character"\n}',
        {"_moobius_type": "moobius.types.Character", "_moobius_val": {"name": "Ärger"}},
    ),
    "scores": ('{\n    "scores": [\n        1,\n        2.0\n    ],\n    "_type": "list"\n}', [1, 2.0]),
    "names": ('{\n    "names": {},\n    "_type": "builtins.dict"\n}', {}),
    "nothing": ('{\n    "nothing": null,\n    "_type": "NoneType"\n}', None),
    "a@b": ('{\n    "a@b": 5,\n    "_type": "builtins.int"\n}', 5),
}


async def test_files_of_older_versions_are_read(backend: JsonBackend, original: Any) -> None:
    folder = Path(original.path)
    for key, (text, _) in OLDER.items():
        (folder / f"{key}.json").write_text(text)
    for key, (text, value) in OLDER.items():
        assert json.loads((await entry_of(backend, key)).value) == value
        assert (folder / f"{key}.json").read_text() == text  # reading converts nothing
    values, _ = await entries_of(backend)
    assert {key: json.loads(text) for key, text in values.items()} == {k: v for k, (_, v) in OLDER.items()}
