"""What is acknowledged is on the disk: the order of writing, full disks, failing disks, kill -9."""

import asyncio
import contextlib
import errno
import json
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from json_backend import DOMAIN, FOLDER, entries_of, entry_of, is_absent, keys_of, opened
from neardict_server.backends.base import ABSENT
from neardict_server.errors import BackendUnavailableError, StorageFullError
from processes import ended


def contents(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if not file.name.startswith(".neardict."))


class Recorder:
    """Records what is told to the disk, in order, as names relative to the root."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self._root = root
        self._fsync, self._rename, self._unlink = os.fsync, os.rename, os.unlink
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(os, "unlink", self.unlink)

    def fsync(self, descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        self._fsync(descriptor)
        self.steps.append(f"fsync {kind} {self._name(place)}")

    def rename(self, source: Any, target: Any, **folders: int) -> None:
        self._rename(source, target, **folders)
        self.steps.append(f"rename to {target}")

    def unlink(self, name: Any, **folder: int) -> None:
        self._unlink(name, **folder)
        self.steps.append(f"unlink {name}")

    def _name(self, place: Path) -> str:
        return "temporary" if place.suffix == ".tmp" else str(place.relative_to(self._root))


async def test_a_write_is_acknowledged_after_file_and_folder_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as backend:
        recorder = Recorder(tmp_path, monkeypatch)
        await backend.set_value("a.b", "first", "1")
        # The revision that a restart counts on from may be written in between.
        steps = [step for step in recorder.steps if step not in ("rename to .neardict.revision",)]
        assert steps[:2] == ["fsync folder .", "fsync folder a"]
        assert steps[-3:] == ["fsync file temporary", "rename to first.json", "fsync folder a/b"]
        recorder.steps.clear()
        await backend.set_value("a.b", "first", "2")
        assert recorder.steps[-3:] == ["fsync file temporary", "rename to first.json", "fsync folder a/b"]
        await backend.delete_key("a.b", "first")
        # By way of a temporary name, which tells our own deletions from others'.
        assert recorder.steps[-3].startswith("rename to .neardict-")
        assert recorder.steps[-2].startswith("unlink .neardict-")
        assert recorder.steps[-1] == "fsync folder a/b"


async def test_writes_of_different_keys_wait_for_the_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "first", "1")
        fsync = os.fsync
        together = threading.Barrier(4)

        def fsync_together(descriptor: int) -> None:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                together.wait(10)
            fsync(descriptor)

        # Keys of four different stripes; the kept revision must not need writing meanwhile.
        backend._store._high_water.kept = 2**53
        keys: dict[int, str] = {}
        while len(keys) < 4:
            key = f"key-{random.random()}"
            keys.setdefault(id(backend._store._locks.of_key(DOMAIN, key)), key)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync_together)
            await asyncio.gather(*(backend.set_value(DOMAIN, key, "1") for key in keys.values()))


async def test_a_cancelled_write_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "alice", "1")
        waiting, released = threading.Event(), threading.Event()
        fsync = os.fsync

        def slow_fsync(descriptor: int) -> None:
            waiting.set()
            released.wait(10)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow_fsync)
        write = asyncio.create_task(backend.set_value(DOMAIN, "alice", "2"))
        await asyncio.to_thread(waiting.wait, 10)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        # Reads do not wait for the disk, and see no part of it.
        assert (await entry_of(backend, "alice")).value == "1"
        assert await keys_of(backend) == ["alice"]
        later = asyncio.create_task(backend.set_value(DOMAIN, "alice", "3"))
        released.set()
        written = await later
        entry = await entry_of(backend, "alice")
        assert (entry.value, entry.revision) == ("3", written.revision)


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_a_failed_fsync_ends_writing_until_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "alice", "1")
        with monkeypatch.context() as patch:
            fsync = os.fsync

            def failing_fsync(descriptor: int) -> None:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (kind == "folder"):
                    raise OSError(errno.EIO, "Input/output error")
                fsync(descriptor)

            patch.setattr(os, "fsync", failing_fsync)
            with pytest.raises(BackendUnavailableError, match="restart"):
                await backend.set_value(DOMAIN, "alice", "2")
        with pytest.raises(BackendUnavailableError, match="restart"):
            await backend.set_value(DOMAIN, "bob", "2")
        with pytest.raises(BackendUnavailableError, match="restart"):
            await backend.delete_key(DOMAIN, "alice")
        assert (await entry_of(backend, "alice")).value == ("1" if kind == "file" else "2")
        assert await keys_of(backend) == ["alice"]
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "bob", "2")
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


async def test_no_room_that_only_fsync_finds_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "alice", "1")

        def full(descriptor: int) -> None:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageFullError):
                await backend.set_value(DOMAIN, "alice", "2")
        assert (await entry_of(backend, "alice")).value == "1"
        await backend.set_value(DOMAIN, "alice", "3")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the permission to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_refuses_the_write_and_loses_nothing(small_disk: Path) -> None:
    async with opened(small_disk) as backend:
        await backend.set_value(DOMAIN, "alice", json.dumps("a" * 100_000))
        before = contents(small_disk)
        for key in ("alice", "bob"):
            with pytest.raises(StorageFullError):
                await backend.set_value(DOMAIN, key, json.dumps("b" * 200_000))
        assert (await entry_of(backend, "alice")).value == json.dumps("a" * 100_000)
        assert await is_absent(backend, "bob")
        assert contents(small_disk) == before
        await backend.delete_key(DOMAIN, "alice")
        await backend.set_value(DOMAIN, "bob", json.dumps("b" * 100_000))


async def test_on_a_full_disk_entries_can_be_read_and_removed(small_disk: Path) -> None:
    async with opened(small_disk) as backend:
        await backend.set_value(DOMAIN, "alice", "1")
        await backend.set_value(DOMAIN, "bob", "1")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", 0) as filler:
        while filler.write(b"x" * 4096):
            pass
    async with opened(small_disk) as backend:
        assert (await entry_of(backend, "alice")).value == "1"
        with pytest.raises(StorageFullError):
            await backend.set_value(DOMAIN, "alice", "2")
        assert await entries_of(backend) == ({"alice": "1", "bob": "1"}, [])
        assert (await backend.delete_key(DOMAIN, "bob")).existed
        (small_disk / "filler").unlink()
        await backend.set_value(DOMAIN, "alice", "2")


@pytest.fixture
def rounding_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system whose inodes have no room for more than the seconds of a time."""
    image, place = tmp_path / "image", tmp_path / "rounding"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(2 * 1024 * 1024)
    for command in (
        ["mkfs.ext4", "-q", "-I", "128", "-O", "^has_journal", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    ):
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a file system that rounds times needs mkfs.ext4 and the permission to mount it")
    yield place
    subprocess.run(["umount", place], check=True)


async def test_where_times_are_rounded_memory_keeps_the_revisions(
    rounding_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latest = 0
    for _ in range(2):
        async with opened(rounding_disk) as backend:
            for number in range(10):
                written = await backend.set_value(DOMAIN, "alice", str(number))
                assert written.revision > latest
                latest = written.revision
                entry = await entry_of(backend, "alice")
                assert (entry.value, entry.revision) == (str(number), latest)
                await backend.set_value(DOMAIN, "bob", "1", condition=ABSENT)
                await backend.delete_key(DOMAIN, "bob")
    assert caplog.text.count("rounds the times of files") == 2


async def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    leftovers = [tmp_path / ".neardict-0123-4567.tmp", tmp_path / FOLDER / ".neardict-0123-4567.tmp"]
    leftovers[1].parent.mkdir(parents=True)
    for leftover in leftovers:
        leftover.write_text("half of a val")
    kept = tmp_path / FOLDER / "mine.tmp"
    kept.write_text("")
    async with opened(tmp_path) as backend:
        assert await keys_of(backend) == []
    assert not any(leftover.exists() for leftover in leftovers)
    assert kept.exists()


WRITER = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from json_backend import DOMAIN, opened

async def write(backend, key, number):
    while True:
        number += 1
        value = json.dumps({"number": number, "text": "x" * (number % 7) * 1000})
        written = await backend.set_value(DOMAIN, key, value)
        print(key, number, written.revision, flush=True)

async def main():
    async with opened(Path(sys.argv[1])) as backend:
        start = int(sys.argv[3])
        await asyncio.gather(*(write(backend, f"key-{n}", start) for n in range(8)))

asyncio.run(main())
"""


async def test_kill_9_while_writing_loses_nothing_acknowledged_and_tears_no_file(tmp_path: Path) -> None:
    chance = random.Random(7)
    latest = 0
    start = 0
    for _ in range(10):
        started = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parents[1]), str(start)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with ended(started) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline()]
            time.sleep(chance.uniform(0, 0.2))  # when the kill comes, not what is waited for
            writer.kill()
            lines += writer.stdout.read().splitlines()
        # The last line may be cut.
        acknowledged = {line.split()[0]: line.split()[1:] for line in lines if len(line.split()) == 3}
        async with opened(tmp_path) as backend:
            values, unreadable = await entries_of(backend)
            assert unreadable == []
            numbers = {key: json.loads(value)["number"] for key, value in values.items()}
            for key, (number, revision) in acknowledged.items():
                # What was under way may be there as well.
                assert int(number) <= numbers[key] <= int(number) + 1
                assert int(revision) > latest
            highest = max([(await entry_of(backend, key)).revision for key in values])
            assert highest > latest
            latest = (await backend.set_value(DOMAIN, "after", "0")).revision
            assert latest > highest
            await backend.delete_key(DOMAIN, "after")
        start = max(numbers.values())
    assert not list((tmp_path / FOLDER).glob(".neardict*"))
