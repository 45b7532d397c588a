"""Files that somebody edits, adds, moves or removes while the server runs."""

import asyncio
import json
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from json_backend import DOMAIN, FOLDER, entries_of, entry_of, is_absent, keys_of, opened
from neardict_server.backends.base import ABSENT
from neardict_server.backends.json import JsonBackend
from neardict_server.errors import ConditionFailedError


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[JsonBackend]:
    async with opened(tmp_path) as backend:
        yield backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path.joinpath(FOLDER)
    place.mkdir(parents=True)
    return place


async def test_an_edit_is_seen_by_the_next_request(backend: JsonBackend, folder: Path) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    (folder / "alice.json").write_text("2")
    entry, domain_revision = await backend.get_value(DOMAIN, "alice")
    assert entry is not None
    assert entry.value == "2"
    assert domain_revision >= entry.revision > written.revision
    assert await entry_of(backend, "alice") == entry
    assert (await backend.set_value(DOMAIN, "bob", "1")).revision > entry.revision


async def test_a_file_that_somebody_adds_is_an_entry(backend: JsonBackend, folder: Path) -> None:
    before = (await backend.set_value(DOMAIN, "alice", "1")).revision
    (folder / "bob.json").write_text('{"hp": 5}')
    assert await keys_of(backend) == ["alice", "bob"]
    assert (await entry_of(backend, "bob")).revision > before
    with pytest.raises(ConditionFailedError):
        await backend.set_value(DOMAIN, "bob", "1", condition=ABSENT)


async def test_a_file_that_somebody_removes_is_absent(backend: JsonBackend, folder: Path) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    (folder / "alice.json").unlink()
    assert await is_absent(backend, "alice")
    assert await keys_of(backend) == []
    assert not (await backend.delete_key(DOMAIN, "alice")).existed
    with pytest.raises(ConditionFailedError) as caught:
        await backend.set_value(DOMAIN, "alice", "2", condition=written.revision)
    assert caught.value.current_revision == ABSENT
    assert (await backend.set_value(DOMAIN, "alice", "2", condition=ABSENT)).revision > written.revision


async def test_an_edit_that_keeps_size_and_time_is_seen(backend: JsonBackend, folder: Path) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    file = folder / "alice.json"
    before = file.stat()
    with file.open("r+b") as opened_file:
        opened_file.write(b"2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    entry = await entry_of(backend, "alice")
    assert (entry.value, entry.revision > written.revision) == ("2", True)


async def test_an_older_file_put_back_is_a_new_revision(backend: JsonBackend, folder: Path) -> None:
    await backend.set_value(DOMAIN, "alice", "1")
    (folder / "alice.json").rename(folder / "alice.backup")
    newer = await backend.set_value(DOMAIN, "alice", "2")
    (folder / "alice.backup").rename(folder / "alice.json")
    entry = await entry_of(backend, "alice")
    assert (entry.value, entry.revision > newer.revision) == ("1", True)
    # The same after a deletion.
    (folder / "alice.json").rename(folder / "alice.backup")
    assert await is_absent(backend, "alice")
    (folder / "alice.backup").rename(folder / "alice.json")
    assert (await entry_of(backend, "alice")).revision > entry.revision


async def test_a_touched_file_is_the_same_entry(backend: JsonBackend, folder: Path) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    for time in (0, 10**9, 4 * 10**9):
        os.utime(folder / "alice.json", (time, time))
        assert (await entry_of(backend, "alice")).revision == written.revision


async def test_reading_an_edited_file_leaves_its_time_alone(backend: JsonBackend, folder: Path) -> None:
    file = folder / "alice.json"
    file.write_text("1")
    before = file.stat()
    await entry_of(backend, "alice")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


async def test_a_write_keeps_the_permissions_that_somebody_gave_a_file(
    backend: JsonBackend, folder: Path
) -> None:
    await backend.set_value(DOMAIN, "alice", "1")
    for permissions in (0o600, 0o664):
        (folder / "alice.json").chmod(permissions)
        await backend.set_value(DOMAIN, "alice", "2")
        assert (folder / "alice.json").stat().st_mode & 0o777 == permissions


async def test_an_edit_fails_the_condition_of_who_read_before(backend: JsonBackend, folder: Path) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    (folder / "alice.json").write_text("2")
    with pytest.raises(ConditionFailedError) as caught:
        await backend.set_value(DOMAIN, "alice", "3", condition=written.revision)
    with pytest.raises(ConditionFailedError):
        await backend.delete_key(DOMAIN, "alice", condition=written.revision)
    assert (await entry_of(backend, "alice")).value == "2"
    await backend.set_value(DOMAIN, "alice", "3", condition=caught.value.current_revision)
    assert (await entry_of(backend, "alice")).value == "3"


async def test_an_edit_while_a_write_waits_for_the_disk_fails_its_condition(
    backend: JsonBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = await backend.set_value(DOMAIN, "alice", "1")
    fsync = os.fsync

    def slow_fsync(descriptor: int) -> None:
        (folder / "alice.json").write_text("2")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    with pytest.raises(ConditionFailedError):
        await backend.set_value(DOMAIN, "alice", "3", condition=written.revision)
    assert (folder / "alice.json").read_text() == "2"
    assert [file.name for file in folder.iterdir()] == ["alice.json"]


async def test_a_removed_folder_is_an_empty_domain_and_comes_back(
    backend: JsonBackend, tmp_path: Path
) -> None:
    await backend.set_value(DOMAIN, "alice", "1")
    (tmp_path / FOLDER / "alice.json").unlink()
    (tmp_path / FOLDER).rmdir()
    (tmp_path / FOLDER).parent.rmdir()
    assert await is_absent(backend, "alice")
    assert await keys_of(backend) == []
    await backend.set_value(DOMAIN, "alice", "2")
    assert (await entry_of(backend, "alice")).value == "2"


async def test_other_files_and_folders_are_not_entries(backend: JsonBackend, folder: Path) -> None:
    for name in ("notes.txt", "alice.json~", "#alice.json#", ".json", "alice.JSON", ".alice.json.swp"):
        (folder / name).write_text("1")
    (folder / "folder.json").mkdir()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "alice.json").write_text("1")
    os.mkfifo(folder / "pipe.json")
    assert await keys_of(backend) == []
    for key in ("folder", "pipe", "alice", "notes.txt"):
        assert await is_absent(backend, key)
    assert await keys_of(backend, f"{DOMAIN}.deeper") == ["alice"]


async def test_names_that_other_programs_gave_are_served_as_they_are(
    backend: JsonBackend, folder: Path
) -> None:
    names = ["a@b", "100%", "%41", "%zz", ".hidden", "a:b", "x" * 100 + "@" * 100]
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(name))
    os.close(os.open(os.fsencode(folder) + b"/\xff.json", os.O_CREAT))
    assert await keys_of(backend) == sorted(names)
    for key in names:
        assert (await entry_of(backend, key)).value == json.dumps(key)
        written = await backend.set_value(DOMAIN, key, "2")
        assert (await entry_of(backend, key)).revision == written.revision
        assert (folder / f"{key}.json").read_text() == "2\n"
    assert await entries_of(backend) == (dict.fromkeys(names, "2"), [])
    for key in names:
        assert (await backend.delete_key(DOMAIN, key)).existed
        assert await is_absent(backend, key)
    assert await keys_of(backend) == []


async def test_our_own_name_of_a_key_hides_the_other(backend: JsonBackend, folder: Path) -> None:
    await backend.set_value(DOMAIN, "a@b", "1")
    (folder / "a@b.json").write_text("2")
    assert await keys_of(backend) == ["a@b"]
    assert (await entry_of(backend, "a@b")).value == "1"
    assert await entries_of(backend) == ({"a@b": "1"}, [])
    assert (await backend.delete_key(DOMAIN, "a@b")).existed
    assert await is_absent(backend, "a@b")
    assert list(folder.iterdir()) == []


async def test_edits_by_others_are_seen_in_their_order(backend: JsonBackend, folder: Path) -> None:
    await backend.set_value(DOMAIN, "alice", "0")
    stop = threading.Event()

    def edit() -> None:
        # As most editors save: a new file takes the name.
        number = 0
        while not stop.is_set():
            number += 1
            (folder / "alice.new").write_text(str(number))
            (folder / "alice.new").rename(folder / "alice.json")

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        seen = [await entry_of(backend, "alice") for _ in range(500)]
    finally:
        stop.set()
        await asyncio.to_thread(editor.join)
    assert seen == sorted(seen, key=lambda entry: (entry.revision, int(entry.value)))
    assert len({entry.revision for entry in seen}) == len({entry.value for entry in seen}) > 2


@pytest.mark.parametrize("seed", range(4))
async def test_a_history_of_writes_edits_and_restarts_is_that_of_a_dict(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    keys = ["alice", "bob", "a/b", "k" * 1000, "..", "é"]
    model: dict[str, str] = {}
    known: dict[str, int] = {}
    latest = 0
    for _ in range(6):
        async with opened(tmp_path) as backend:
            for number in range(40):
                key, text = chance.choice(keys), f"{chance.random()}"
                action = chance.choice(["set", "set_if", "delete", "edit", "remove", "get", "list"])
                place = tmp_path / FOLDER / f"{key}.json"
                if action == "set":
                    latest, previous = (await backend.set_value(DOMAIN, key, text)).revision, latest
                    assert latest > previous
                    model[key], known[key] = text, latest
                elif action == "set_if":
                    entry = (await backend.get_value(DOMAIN, key)).entry
                    condition = entry.revision if entry else ABSENT
                    latest = (await backend.set_value(DOMAIN, key, text, condition=condition)).revision
                    model[key], known[key] = text, latest
                elif action == "delete":
                    assert (await backend.delete_key(DOMAIN, key)).existed == (key in model)
                    model.pop(key, None)
                elif action == "edit" and key in ("alice", "bob") and place.parent.exists():
                    place.write_text(text)
                    model[key] = text
                    known.pop(key, None)
                elif action == "remove" and key in ("alice", "bob"):
                    place.unlink(missing_ok=True)
                    model.pop(key, None)
                elif action == "list":
                    assert await entries_of(backend) == (model, [])
                entry, domain_revision = await backend.get_value(DOMAIN, key)
                assert (entry and entry.value) == model.get(key), number
                if entry and key in known:
                    assert entry.revision == known[key]
                if entry:
                    known[key] = entry.revision
                    latest = max(latest, entry.revision)
                assert domain_revision >= (entry.revision if entry else 0)
        # Edited files have another revision after a restart.
        known = {key: revision for key, revision in known.items() if key not in ("alice", "bob")}
