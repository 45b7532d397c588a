"""The json backend: damaged files, links, permissions, restarts, and many callers at once."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from json_backend import DOMAIN, FOLDER, entries_of, entry_of, is_absent, keys_of, opened
from neardict_server.backends import base
from neardict_server.backends.base import ABSENT, Capability
from neardict_server.backends.json import JsonBackend
from neardict_server.backends.json.names import file_name
from neardict_server.backends.json.store import JsonStore
from neardict_server.errors import BackendUnavailableError, ConditionFailedError, CorruptEntryError
from neardict_server.exclusive import InUseError
from waiting import DEADLINE_SECONDS

NOBODY = 65534


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[JsonBackend]:
    async with opened(tmp_path) as backend:
        yield backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path.joinpath(FOLDER)
    place.mkdir(parents=True)
    return place


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Makes permissions count, which they do not for root."""
    if os.geteuid():
        yield
        return
    for place in (folder, *folder.parents):
        if not place.stat().st_mode & 1:
            place.chmod(place.stat().st_mode | 0o055)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_it_promises_durability_and_no_expiry(backend: JsonBackend) -> None:
    assert backend.capabilities == {Capability.DURABLE, Capability.WATCH}


async def test_a_container_of_the_sdk_is_where_the_sdk_has_it(backend: JsonBackend, tmp_path: Path) -> None:
    await backend.set_value(DOMAIN, "alice", '{"name":"Ärger"}')
    file = tmp_path / "service_1" / "channel_7" / "health_bars" / "alice.json"
    assert file.read_text() == '{\n  "name": "Ärger"\n}\n'


async def test_the_default_root_is_in_the_data_folder(tmp_path: Path) -> None:
    backend = await JsonBackend.open(JsonBackend.Settings(), base.Surroundings(tmp_path / "data"))
    await backend.set_value("d", "k", "1")
    await backend.close()
    assert (tmp_path / "data" / "json" / "d" / "k.json").read_text() == "1\n"


@pytest.mark.parametrize("contents", [b"", b'{"a": 1', b'"secret\xff"', b"NaN", b'{"_neardict_raw": 5}'])
async def test_a_damaged_file_is_lost_for_its_key_alone(
    backend: JsonBackend, folder: Path, contents: bytes
) -> None:
    await backend.set_value(DOMAIN, "alice", "1")
    (folder / "bob.json").write_bytes(contents)
    with pytest.raises(CorruptEntryError) as caught:
        await backend.get_value(DOMAIN, "bob")
    assert str(caught.value).startswith("service_1/channel_7/health_bars/bob.json ")
    assert "secret" not in str(caught.value)
    assert (await entry_of(backend, "alice")).value == "1"
    assert await keys_of(backend) == ["alice", "bob"]
    assert await entries_of(backend) == ({"alice": "1"}, ["bob"])
    with pytest.raises(ConditionFailedError) as failed:
        await backend.set_value(DOMAIN, "bob", "2", condition=ABSENT)
    await backend.set_value(DOMAIN, "bob", "2", condition=failed.value.current_revision)
    assert (await entry_of(backend, "bob")).value == "2"
    (folder / "bob.json").write_bytes(contents)
    assert (await backend.delete_key(DOMAIN, "bob")).existed


async def test_a_listing_of_nothing_but_damaged_files_is_bounded(
    backend: JsonBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PAGE_ENTRIES", 10)
    for number in range(25):
        (folder / f"{number}.json").touch()
    found = [page async for page in backend.all_keys(DOMAIN, entries=True)]
    assert [len(page.unreadable) for page in found] == [10, 10, 5]


async def test_a_file_that_may_not_be_read_is_lost_for_its_key_alone(
    backend: JsonBackend, folder: Path
) -> None:
    for name in ("alice", "bob"):
        (folder / f"{name}.json").write_text("1")
    (folder / "bob.json").chmod(0)
    with unprivileged(folder):
        with pytest.raises(CorruptEntryError, match="check its owner, its mode"):
            await backend.get_value(DOMAIN, "bob")
        assert await entries_of(backend) == ({"alice": "1"}, ["bob"])


async def test_a_folder_that_may_not_be_written_to_says_what_to_check(
    backend: JsonBackend, folder: Path
) -> None:
    (folder / "alice.json").write_text("1")
    folder.chmod(0o555)
    with unprivileged(folder):
        with pytest.raises(BackendUnavailableError, match=r"Permission denied.*owns it and may write"):
            await backend.set_value(DOMAIN, "alice", "2")
        with pytest.raises(BackendUnavailableError, match="Permission denied"):
            await backend.delete_key(DOMAIN, "alice")
    assert (await entry_of(backend, "alice")).value == "1"
    folder.chmod(0o777)
    await backend.set_value(DOMAIN, "alice", "2")


async def test_a_damaged_file_of_a_shortened_name_is_left_out_of_listings(
    backend: JsonBackend, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long, longer = "k" * 1000, "k" * 1001
    await backend.set_value(DOMAIN, long, "1")
    await backend.set_value(DOMAIN, longer, "1")
    (folder / file_name(long)).write_text("1")
    with pytest.raises(CorruptEntryError, match="lacks the envelope"):
        await backend.get_value(DOMAIN, long)
    assert await keys_of(backend) == [longer]
    assert await entries_of(backend) == ({longer: "1"}, [])
    assert "leaves out a key" in caplog.text
    # One file in the place of another holds neither.
    shutil.copy(folder / file_name(longer), folder / file_name(long))
    assert await keys_of(backend) == [longer]
    with pytest.raises(CorruptEntryError, match="another key"):
        await backend.get_value(DOMAIN, long)


async def test_a_linked_file_is_not_followed(backend: JsonBackend, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('"private"')
    for name in ("file", "other"):
        (folder / f"{name}.json").symlink_to(outside)
    (folder / "nothing.json").symlink_to("nowhere")
    for key in ("file", "nothing"):
        assert await is_absent(backend, key)
    assert await entries_of(backend) == ({}, [])
    await backend.set_value(DOMAIN, "file", "1", condition=ABSENT)
    assert not (folder / "file.json").is_symlink()
    assert not (await backend.delete_key(DOMAIN, "other")).existed
    assert outside.read_text() == '"private"'


async def test_a_linked_folder_is_not_followed(backend: JsonBackend, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "channel_7" / "health_bars").mkdir(parents=True)
    private = outside / "channel_7" / "health_bars" / "alice.json"
    private.write_text('"private"')
    (tmp_path / "service_1").symlink_to(outside)
    assert await is_absent(backend, "alice")
    assert await keys_of(backend) == []
    assert not (await backend.delete_key(DOMAIN, "alice")).existed
    with pytest.raises(BackendUnavailableError):
        await backend.set_value(DOMAIN, "alice", "1")
    assert private.read_text() == '"private"'
    assert len(list(outside.rglob("*"))) == 3


async def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    async with opened(tmp_path / "root") as backend:
        await backend.set_value("d", "k", "1")
    assert (tmp_path / "real" / "d" / "k.json").exists()


async def test_a_file_in_the_place_of_a_folder_is_an_empty_domain_and_cannot_be_written_to(
    backend: JsonBackend, tmp_path: Path
) -> None:
    (tmp_path / "service_1").write_text("")
    assert await is_absent(backend, "alice")
    assert await keys_of(backend) == []
    with pytest.raises(BackendUnavailableError, match="Not a directory"):
        await backend.set_value(DOMAIN, "alice", "1")


async def test_a_folder_in_the_place_of_a_file_cannot_be_written_to(
    backend: JsonBackend, folder: Path
) -> None:
    (folder / "alice.json").mkdir()
    with pytest.raises(BackendUnavailableError, match="Is a directory"):
        await backend.set_value(DOMAIN, "alice", "1")
    assert [file.name for file in folder.iterdir()] == ["alice.json"]


async def test_a_root_that_was_replaced_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with opened(root) as backend:
        await backend.set_value(DOMAIN, "alice", "1")
        for replaced in (False, True):
            root.rename(tmp_path / "moved")
            if replaced:
                root.mkdir()
            with pytest.raises(BackendUnavailableError, match="root_dir"):
                await backend.get_value(DOMAIN, "alice")
            with pytest.raises(BackendUnavailableError, match="root_dir"):
                await backend.set_value(DOMAIN, "alice", "2")
            with pytest.raises(BackendUnavailableError, match="root_dir"):
                await keys_of(backend)
            if replaced:
                root.rmdir()
            (tmp_path / "moved").rename(root)
        assert (await entry_of(backend, "alice")).value == "1"


async def test_one_server_owns_the_root(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(InUseError):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path):
        pass


@pytest.mark.parametrize("twin", [".NEARDICT-PROBE-\u00c9.TMP", ".neardict-probe-e\u0301.tmp"])
async def test_a_file_system_that_takes_twins_for_one_is_refused(tmp_path: Path, twin: str) -> None:
    # To the probe, a file of the other name looks as on such a file system.
    (tmp_path / twin).touch()
    with pytest.raises(ValueError, match="keys would overwrite each other"):
        async with opened(tmp_path):
            pass
    (tmp_path / twin).unlink()
    async with opened(tmp_path):
        assert [file.name for file in tmp_path.iterdir() if "probe" in file.name] == []


async def test_a_root_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o555)
    with unprivileged(root), pytest.raises(PermissionError):
        async with opened(root):
            pass


async def test_entries_keep_their_revisions_over_a_restart(tmp_path: Path) -> None:
    keys = ["alice", "a@b", "k" * 1000]
    async with opened(tmp_path) as backend:
        written = {key: await backend.set_value(DOMAIN, key, "1") for key in keys}
        deleted = await backend.delete_key(DOMAIN, keys[0])
    async with opened(tmp_path) as backend:
        for key in keys[1:]:
            entry, domain_revision = await backend.get_value(DOMAIN, key)
            assert entry is not None
            assert entry.revision == written[key].revision
            assert domain_revision >= deleted.revision
            await backend.set_value(DOMAIN, key, "2", condition=entry.revision)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("last", ["set", "delete"])
async def test_revisions_increase_although_the_clock_went_back_over_a_restart(
    tmp_path: Path, last: str
) -> None:
    clock = Clock()
    latest = 0
    for _ in range(4):
        async with opened(tmp_path, clock=clock) as backend:
            assert (await backend.get_value(DOMAIN, "bob")).domain_revision >= latest
            written = await backend.set_value(DOMAIN, "alice", "1")
            assert written.revision > latest
            latest = written.revision
            if last == "delete":
                latest = (await backend.delete_key(DOMAIN, "alice")).revision
                assert latest > written.revision
        clock.now -= 3600 * 10**6


async def test_a_damaged_note_of_the_last_revision_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = tmp_path / ".neardict.revision"
    for damaged in (b"", b"\xff", b"1e9", b"9" * 30):
        note.write_bytes(damaged)
        async with opened(tmp_path) as backend:
            written = await backend.set_value("d", "k", "1")
        assert note.read_text() == f"{written.revision}\n"
    assert caplog.text.count("is damaged") == 4


async def test_a_closed_backend_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as backend:
        pass
    with pytest.raises(BackendUnavailableError, match="closing"):
        await backend.get_value("d", "k")
    with pytest.raises(BackendUnavailableError, match="closing"):
        await backend.set_value("d", "k", "1")


async def test_closing_waits_for_writes_under_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as backend:
        writes = [asyncio.create_task(backend.set_value("d", f"k{n}", "1")) for n in range(50)]
        await asyncio.sleep(0)
        await backend.close()
        assert all(isinstance(result, base.Written) for result in await asyncio.gather(*writes))
    async with opened(tmp_path) as backend:
        assert len(await keys_of(backend, "d")) == 50


async def test_what_is_read_among_writers_has_the_revision_it_was_written_with(backend: JsonBackend) -> None:
    keys = ["alice", "bob", "a@b"]
    written: dict[tuple[str, int], base.Value] = {}
    read: list[base.Entry] = []
    deleted: dict[str, int] = dict.fromkeys(keys, 0)
    done = False

    async def write(key: str, worker: int) -> None:
        for number in range(25):
            value = json.dumps([key, worker, number], separators=(",", ":")) if number % 3 else '"same"'
            written[key, (await backend.set_value(DOMAIN, key, value)).revision] = value
            if number % 5 == 4:
                gone = await backend.delete_key(DOMAIN, key)
                deleted[key] = max(deleted[key], gone.revision)

    async def look(key: str) -> None:
        last = 0
        while not done:
            entry, domain_revision = await backend.get_value(DOMAIN, key)
            if entry is not None:
                assert last <= entry.revision <= domain_revision
                last = entry.revision
                read.append(entry)

    looking = [asyncio.create_task(look(key)) for key in keys for _ in range(2)]
    await asyncio.gather(*(write(key, worker) for key in keys for worker in range(3)))
    done = True
    await asyncio.gather(*looking)
    assert len({revision for _, revision in written}) == len(written)
    assert len(read) > 50
    for entry in read:
        assert isinstance(entry.value, str)
        assert json.loads(entry.value) == json.loads(written[entry.key, entry.revision])


async def test_a_read_of_the_domain_is_as_new_as_it_says(backend: JsonBackend) -> None:
    acknowledged = 0

    async def write(worker: int) -> None:
        nonlocal acknowledged
        for number in range(20):
            written = await backend.set_value(DOMAIN, f"{worker}-{number}", "1")
            acknowledged = max(acknowledged, written.revision)
            seen.setdefault(f"{worker}-{number}", written.revision)

    seen: dict[str, int] = {}
    writing = asyncio.gather(*(write(worker) for worker in range(6)))
    listings = []
    while not writing.done():
        listings.append([page async for page in backend.all_keys(DOMAIN)])
    await writing
    for pages in listings:
        keys = {key for page in pages for key in page.keys}
        assert {key for key, revision in seen.items() if revision <= pages[0].domain_revision} <= keys


def test_the_settings_name_an_unknown_one() -> None:
    with pytest.raises(ValueError, match="root"):
        JsonBackend.Settings.model_validate({"root": "x"})


async def test_a_look_up_waits_behind_no_listing(
    backend: JsonBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.set_value(DOMAIN, "k", "1")
    go_on = threading.Event()
    original = JsonStore.listing

    def listing(self: JsonStore, domain: str) -> tuple[int, list[str]]:
        go_on.wait()
        return original(self, domain)

    monkeypatch.setattr(JsonStore, "listing", listing)
    listings = [asyncio.create_task(keys_of(backend)) for _ in range(20)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await entry_of(backend, "k")).value == "1"
    finally:
        go_on.set()
    assert await asyncio.gather(*listings) == [["k"]] * 20
