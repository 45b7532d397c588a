"""What the json backend publishes: every change, once, in the order of revisions, when it can be read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import random
import threading
from typing import TYPE_CHECKING, Any

import inotify_simple
import pytest

from coherence.json_reader import Reader, applied, contents, read, until
from json_backend import DOMAIN, FOLDER
from neardict_server.backends import base
from neardict_server.backends.json import feed as json_feed
from neardict_server.backends.json import files as json_files
from neardict_server.backends.json import watch as json_watch
from neardict_server.backends.json.files import Stored
from neardict_server.backends.json.revisions import Revisions
from neardict_server.errors import BackendUnavailableError, ConditionFailedError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from neardict_server.backends.json import JsonBackend


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_feed, "CHECK", 0.05)
    monkeypatch.setattr(json_feed, "LATE", 0.2)


class Disk:
    """Holds up, or fails, writing the values that a test names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held: dict[bytes, threading.Event] = {}
        self._failing: set[bytes] = set()
        self._prepared = json_files.prepared
        monkeypatch.setattr(json_files, "prepared", self._prepare)

    @contextlib.contextmanager
    def held(self, value: str) -> Iterator[None]:
        released = self._held[f"{value}\n".encode()] = threading.Event()
        try:
            yield
        finally:
            released.set()

    def fail(self, value: str) -> None:
        self._failing.add(f"{value}\n".encode())

    @contextlib.contextmanager
    def _prepare(self, folder: int, name: str, data: bytes, **options: Any) -> Iterator[Any]:
        with self._prepared(folder, name, data, **options) as prepared:
            if data in self._held:
                assert self._held[data].wait(20)
            if data in self._failing:
                raise OSError(errno.ENOSPC, "no room")
            yield prepared


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def beside(backend: JsonBackend, key: str, stem: str) -> str:
    """Returns a key that does not wait for writes of another, as those do that share a lock."""
    lock = backend._store._locks.of_key(DOMAIN, key)
    keys = (f"{stem}_{number}" for number in itertools.count())
    return next(other for other in keys if backend._store._locks.of_key(DOMAIN, other) is not lock)


async def test_what_is_not_watched_is_not_published(tmp_path: Path) -> None:
    async with read(tmp_path) as (backend, reader):
        await backend.set_value(DOMAIN, "alice", "1")
        await backend.position("other", 0)
        await backend.set_value(DOMAIN, "alice", "2")
        assert reader.changes == {}
        assert not backend.certain(DOMAIN)


async def test_a_write_is_published_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        written = await backend.set_value(DOMAIN, "alice", "1")
        assert reader.changes[DOMAIN] == [base.Change("alice", written.revision, "1")]
        deleted = await backend.delete_key(DOMAIN, "alice")
        assert reader.changes[DOMAIN][1:] == [base.Change("alice", deleted.revision, None)]
        assert backend.certain(DOMAIN)


async def test_what_others_write_waits_for_the_earlier_one(tmp_path: Path, disk: Disk) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        with disk.held('"slow"'):
            slow = asyncio.create_task(backend.set_value(DOMAIN, "slow", '"slow"'))
            await until(lambda: bool(list(tmp_path.joinpath(FOLDER).glob(".neardict-*"))))
            quick, edited = beside(backend, "slow", "quick"), beside(backend, "slow", "edited")
            await backend.set_value(DOMAIN, quick, "1")
            (tmp_path / FOLDER / f"{edited}.json").write_text("1")
            assert (await backend.get_value(DOMAIN, edited)).entry is not None
            assert reader.changes == {}
            # An acknowledged write that nobody is told of for so long is not vouched for.
            await until(lambda: not backend.certain(DOMAIN))
        await slow
        assert [change.key for change in reader.changes[DOMAIN]] == ["slow", quick, edited]
        await until(lambda: backend.certain(DOMAIN))


async def test_a_write_that_fails_releases_those_that_wait(tmp_path: Path, disk: Disk) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        disk.fail('"slow"')
        with disk.held('"slow"'):
            slow = asyncio.create_task(backend.set_value(DOMAIN, "slow", '"slow"'))
            await until(lambda: bool(list(tmp_path.joinpath(FOLDER).glob(".neardict-*"))))
            key = beside(backend, "slow", "quick")
            quick = await backend.set_value(DOMAIN, key, "1")
        with pytest.raises(StorageFullError):
            await slow
        assert reader.changes[DOMAIN] == [base.Change(key, quick.revision, "1")]


async def test_a_write_that_its_caller_gave_up_is_published(tmp_path: Path, disk: Disk) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        with disk.held('"slow"'):
            slow = asyncio.create_task(backend.set_value(DOMAIN, "slow", '"slow"'))
            await until(lambda: bool(list(tmp_path.joinpath(FOLDER).glob(".neardict-*"))))
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
        await until(lambda: reader.of("slow") == ['"slow"'])


async def test_a_write_that_is_there_but_perhaps_not_on_the_disk_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.set_value(DOMAIN, "alice", "1")
        await backend.position(DOMAIN, 0)
        sync = json_files.sync
        place = json_files.place

        def placed(folder: int, temporary: str, name: str) -> None:
            place(folder, temporary, name)
            monkeypatch.setattr(json_files, "sync", fail)

        def fail(descriptor: int) -> None:
            monkeypatch.setattr(json_files, "sync", sync)
            raise json_files.SyncError(errno.EIO, "broken")

        monkeypatch.setattr(json_files, "place", placed)
        with pytest.raises(BackendUnavailableError):
            await backend.set_value(DOMAIN, "alice", "2")
        # Whoever reads sees it.
        assert (await contents(backend)) == {"alice": "2"}
        assert reader.of("alice") == ["2"]


async def test_an_edit_that_a_request_notices_first_is_published_once(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        for number in range(30):
            # The requests come before, while and after the watch looks.
            await backend.set_value(DOMAIN, "alice", f"{number}")
            for name in ("alice", "bob"):
                (tmp_path / FOLDER / f"{name}.json").write_text(f"{number}.5")
            await asyncio.sleep(number / 1000)
            entries = [(await backend.get_value(DOMAIN, name)).entry for name in ("alice", "bob")]
            with pytest.raises(ConditionFailedError):
                await backend.set_value(DOMAIN, "alice", "0", condition=1)
            await until(lambda number=number: reader.of("bob")[-1:] == [f"{number}.5"])  # type: ignore[misc]
            published = {change.key: change.revision for change in reader.changes[DOMAIN]}
            for entry in entries:
                assert entry is not None
                assert published[entry.key] == entry.revision
        await asyncio.sleep(5 * json_feed.SETTLE)
        assert reader.of("bob") == [f"{number}.5" for number in range(30)]
        assert reader.of("alice") == [text for n in range(30) for text in (f"{n}", f"{n}.5")]


async def test_a_touched_file_is_not_published(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        written = await backend.set_value(DOMAIN, "alice", "1")
        os.utime(tmp_path / FOLDER / "alice.json")
        (tmp_path / FOLDER / "alice.json").chmod(0o600)
        (tmp_path / FOLDER / "alice.json").write_text("1\n")
        (tmp_path / FOLDER / "end.json").write_text("1")
        await until(lambda: reader.of("end") == ["1"])
        assert reader.of("alice") == ["1"]
        entry = (await backend.get_value(DOMAIN, "alice")).entry
        assert entry is not None
        assert entry.revision == written.revision


async def test_a_key_that_only_a_listing_has_told_is_published_when_it_goes(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name in ("alice", "bob"):
        (folder / f"{name}.json").write_text("1")
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        assert sorted([key async for page in backend.all_keys(DOMAIN) for key in page.keys]) == [
            "alice",
            "bob",
        ]
        (folder / "alice.json").unlink()
        await until(lambda: reader.of("alice") == [None])
        # And one that has been read, but whose revision only its file told.
        await contents(backend)
        (folder / "bob.json").write_text("1\n")
        await until(lambda: reader.of("bob") == ["1"])


async def test_half_a_file_is_told_without_a_value_and_only_after_a_while(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        await backend.set_value(DOMAIN, "alice", "1")
        file = tmp_path / FOLDER / "alice.json"
        with file.open("w") as opened:
            opened.flush()
            await asyncio.sleep(json_feed.PATIENCE / 2)
            opened.write("2")
        await until(lambda: reader.of("alice") == ["1", "2"])
        file.write_text("{")
        await until(lambda: len(reader.changes[DOMAIN]) == 3)
        assert [change.told for change in reader.changes[DOMAIN]] == [True, True, False]
        file.write_text("3")
        await until(lambda: reader.of("alice")[3:] == ["3"])


async def test_a_file_that_is_gone_just_before_it_is_deleted_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        await backend.set_value(DOMAIN, "alice", "1")
        is_file = json_files.is_file

        def found_at_last(folder: int, name: str) -> bool:
            found = is_file(folder, name)
            (tmp_path / FOLDER / name).unlink(missing_ok=True)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(json_files, "is_file", found_at_last)
            assert not (await backend.delete_key(DOMAIN, "alice")).existed
        await until(lambda: reader.of("alice") == ["1", None])


async def test_more_than_the_kernel_keeps_is_lost_and_said_so(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN, "other") as (backend, reader):
        folder = tmp_path / FOLDER
        for domain in (DOMAIN, "other"):
            await backend.set_value(domain, "alice", "1")
        before = (await backend.position(DOMAIN, 0)).revision
        await backend.position("other", 0)
        with open("/proc/sys/fs/inotify/max_queued_events") as limit:  # noqa: PTH123  # one line
            queued = int(limit.read())
        # By turns, since the same event again would not count; and without a break, so that nobody reads.
        with (folder / "bob.json").open("w") as bob, (folder / "carol.json").open("w") as carol:
            for _ in range(queued):
                for opened in (bob, carol):
                    opened.write(" ")
                    opened.flush()
        await until(lambda: set(reader.lost) == {DOMAIN, "other"})
        position = await backend.position(DOMAIN, before)
        assert position.missed is None
        assert position.revision > before
        (folder / "alice.json").write_text("2")
        await until(lambda: reader.of("alice")[-1:] == ["2"])
        await until(lambda: backend.certain(DOMAIN))


async def test_after_a_loss_what_is_as_remembered_is_published_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        await backend.set_value(DOMAIN, "alice", "1")
        file = tmp_path / FOLDER / "alice.json"
        with monkeypatch.context() as patched:
            patched.setattr(json_watch.Watch, "look", _broken)
            file.rename(tmp_path / "away")
            await until(lambda: DOMAIN in reader.lost)
        # Somebody reads the domain anew, and sees that it is gone; nobody but he.
        assert await contents(backend) == {}
        (tmp_path / "away").rename(file)
        # Whether its absence has been told meanwhile or not.
        await until(lambda: reader.of("alice") in (["1", "1"], ["1", None, "1"]))


def _broken(watch: json_watch.Watch) -> json_watch.Noticed:
    raise OSError(errno.EIO, "broken")


async def test_a_folder_that_cannot_be_watched_is_not_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with read(tmp_path, DOMAIN, "other") as (backend, reader):
        await backend.set_value(DOMAIN, "alice", "1")
        await backend.set_value("other", "alice", "1")
        await backend.position("other", 0)
        await until(lambda: backend.certain("other"))

        def full(inotify: object, path: str, mask: int) -> int:
            raise OSError(errno.ENOSPC, "too many watches")

        with monkeypatch.context() as patched:
            patched.setattr(inotify_simple.INotify, "add_watch", full)
            await backend.position(DOMAIN, 0)
            await asyncio.sleep(3 * json_feed.CHECK)
            assert not backend.certain(DOMAIN)
            assert backend.certain("other")
            assert reader.lost == []
        await until(lambda: backend.certain(DOMAIN))
        assert reader.lost == [DOMAIN]
        await backend.position(DOMAIN, 0)
        (tmp_path / FOLDER / "alice.json").write_text("2")
        await until(lambda: reader.of("alice") == ["2"])


@pytest.mark.parametrize("levels", [0, 1])
async def test_while_the_root_is_away_nothing_is_vouched_for(tmp_path: Path, levels: int) -> None:
    root = tmp_path / "above" / "db"
    moved = [root, root.parent][levels]
    async with read(root, DOMAIN) as (backend, reader):
        await backend.position(DOMAIN, 0)
        await backend.set_value(DOMAIN, "alice", "1")
        await until(lambda: backend.certain(DOMAIN))
        moved.rename(tmp_path / "away")
        await until(lambda: not backend.certain(DOMAIN))
        (tmp_path / "away").rename(moved)
        await until(lambda: backend.certain(DOMAIN))
        assert set(reader.lost) == {DOMAIN}
        (root / FOLDER / "alice.json").write_text("2")
        await until(lambda: reader.of("alice")[-1:] == ["2"])


async def test_who_comes_back_soon_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with read(tmp_path, DOMAIN) as (backend, reader):
        await backend.set_value(DOMAIN, "alice", "1")
        left = (await backend.position(DOMAIN, 0)).revision
        assert (await backend.position(DOMAIN, left)).missed == []
        reader.watched.clear()
        await asyncio.sleep(3 * json_feed.CHECK)
        (tmp_path / FOLDER / "alice.json").write_text("2")
        await until(lambda: reader.of("alice") == ["2"])
        back = await backend.position(DOMAIN, left)
        assert back.missed == reader.changes[DOMAIN]
        assert back.revision == back.missed[-1].revision
        # After a longer time nobody has kept what happened.
        monkeypatch.setattr(json_feed, "LINGER", 0.0)
        await until(lambda: not backend.certain(DOMAIN))
        (tmp_path / FOLDER / "alice.json").write_text("3")
        assert (await backend.position(DOMAIN, back.revision)).missed is None
        assert reader.of("alice") == ["2"]


async def test_after_a_restart_nothing_is_known_to_be_missed(tmp_path: Path) -> None:
    async with read(tmp_path, DOMAIN) as (backend, _):
        await backend.position(DOMAIN, 0)
        revision = (await backend.set_value(DOMAIN, "alice", "1")).revision
    async with read(tmp_path, DOMAIN) as (backend, _):
        position = await backend.position(DOMAIN, revision)
        assert position.missed is None
        assert position.revision > revision
        assert (await backend.position(DOMAIN, position.revision + 1)).missed is None


async def test_who_waits_while_the_backend_closes_is_told_so(tmp_path: Path, disk: Disk) -> None:
    async with read(tmp_path, DOMAIN) as (backend, _):
        with disk.held('"slow"'):
            slow = asyncio.create_task(backend.set_value(DOMAIN, "slow", '"slow"'))
            await until(lambda: bool(list(tmp_path.joinpath(FOLDER).glob(".neardict-*"))))
            position = asyncio.create_task(backend.position(DOMAIN, 0))
            await asyncio.sleep(0.02)
            assert not position.done()
            closing = asyncio.create_task(backend.close())
            with pytest.raises(BackendUnavailableError):
                await position
        await closing
        await slow
        with pytest.raises(BackendUnavailableError):
            await backend.position(DOMAIN, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_who_resumes_at_any_point_misses_nothing(tmp_path: Path, seed: int) -> None:
    """Several write and edit; others stop listening at some change, and go on from there later."""
    chance = random.Random(seed)
    async with read(tmp_path, DOMAIN) as (backend, reader):
        begun = (await backend.position(DOMAIN, 0)).revision
        stop = threading.Event()
        editor = threading.Thread(target=_edit, args=(tmp_path / FOLDER, random.Random(seed), stop))
        editor.start()
        try:
            resumed = 0
            async with asyncio.TaskGroup() as group:
                writers = [group.create_task(_write(backend, random.Random(f"{seed} {n}"))) for n in range(8)]
                while not all(writer.done() for writer in writers):
                    await _resume(backend, reader, chance, begun)
                    resumed += 1
                    await asyncio.sleep(0.002)
        finally:
            stop.set()
            await asyncio.to_thread(editor.join)
        (tmp_path / FOLDER / "end.json").write_text("1")
        await until(lambda: reader.of("end") == ["1"])
        await until(lambda: not backend._feed._touched)
        final = await contents(backend)
        await until(lambda: reader.state(2**63) == final)
        assert resumed > 10
        assert reader.lost == []
        assert any(change.key.startswith("edited") for change in reader.changes[DOMAIN])


async def _write(backend: JsonBackend, chance: random.Random) -> None:
    for number in range(60):
        # Some keys are edited by hand as well.
        key = f"{chance.choice(['written', 'edited'])}_{chance.randrange(6)}"
        if chance.random() < 0.2:
            await backend.delete_key(DOMAIN, key)
        else:
            await backend.set_value(DOMAIN, key, f"{number}.{chance.randrange(10**9)}")


def _edit(folder: Path, chance: random.Random, stop: threading.Event) -> None:
    while not stop.wait(chance.random() / 100):
        file = folder / f"edited_{chance.randrange(6)}.json"
        with contextlib.suppress(FileNotFoundError):
            if chance.random() < 0.2:
                file.unlink()
            else:
                (folder / "new").write_text(f"{chance.randrange(10**9)}")
                (folder / "new").rename(file)


async def _resume(backend: JsonBackend, reader: Reader, chance: random.Random, begun: int) -> None:
    published = [change.revision for change in reader.changes.get(DOMAIN, [])]
    left = chance.choice([begun, *published])
    position = await backend.position(DOMAIN, left)
    assert position.missed is not None
    assert [change.revision for change in position.missed] == sorted(
        change.revision for change in position.missed
    )
    assert applied(reader.state(left), position.missed) == reader.state(position.revision)
    # What is published from now on is newer.
    assert all(change.revision <= position.revision for change in reader.changes.get(DOMAIN, []))


STARTED = 1_700_000_000_000_000
OPENED = 1000 * STARTED


def told(revisions: Revisions, known: list[tuple[str, base.Value | None]], **options: Any) -> list[bool]:
    """Returns for each key, with the value that it has, whether it is told when somebody touches it."""
    found = []
    for key, value in known:
        before = revisions.latest()
        file = None if value is None else Stored(str(value).encode(), OPENED, OPENED)
        revisions.notice(DOMAIN, key, file, **options)
        found.append(revisions.latest() > before)
    return found


def test_what_is_remembered_counts_only_if_it_cannot_have_been_otherwise_meanwhile() -> None:
    revisions = Revisions(STARTED, OPENED, clock=itertools.count(STARTED + 1).__next__)
    file = Stored(b"1", OPENED + 1, OPENED)

    def write(key: str) -> None:
        revision = revisions.begin(DOMAIN)
        revisions.written(DOMAIN, key, revision, file)
        revisions.end(DOMAIN, revision)

    write("before")
    revisions.follow(DOMAIN, empty=False)
    write("after")
    assert told(
        revisions, [("after", "1"), ("after", "2"), ("after", "2"), ("after", None), ("after", None)]
    ) == [
        False,
        True,
        False,
        True,
        False,
    ]
    # A listing may have seen it gone, though nobody else has.
    assert told(revisions, [("after", "2"), ("after", "2")], gone=True) == [True, True]
    # It may have been gone before it was followed, while a client listed the domain.
    assert told(revisions, [("before", "1"), ("before", "1")]) == [True, False]
    # Its file told the revision, perhaps only after it had been edited.
    assert revisions.settle(DOMAIN, "old", Stored(b"1", OPENED - 1000, OPENED)) == STARTED - 1
    forgotten = Stored(b"1", 1000 * revisions.current(DOMAIN), OPENED + 1)
    assert revisions.settle(DOMAIN, "forgotten", forgotten) == revisions.current(DOMAIN)
    for key in ("old", "forgotten"):
        assert told(revisions, [(key, "1"), (key, "1")]) == [True, False]
    # Nobody here has ever heard of it, but a client may have, from a listing.
    assert told(revisions, [("unheard", None), ("unheard", None)]) == [True, False]


def test_in_a_folder_that_was_not_there_no_file_is_old() -> None:
    old = Stored(b"1", OPENED - 1000, OPENED)
    for empty in (False, True):
        revisions = Revisions(STARTED, OPENED)
        revisions.follow(DOMAIN, empty=empty)
        assert (revisions.settle(DOMAIN, "alice", old) > STARTED) == empty
