"""json: the writes of a batch wait for the disk together, are made in their order, and each fails alone."""

import asyncio
import errno
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from json_backend import DOMAIN, FOLDER, entries_of, keys_of, opened
from neardict_server.backends import base
from neardict_server.backends.base import Delete, Get, Set
from neardict_server.errors import BackendUnavailableError, ConditionFailedError, StorageFullError


class Disk:
    """Notes what is told to the disk, and fails as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        # Of which calls the names are to fail, and how.
        self.failing: dict[str, int] = {}
        self._fsync, self._rename, self._open = os.fsync, os.rename, os.open
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(os, "open", self.open)

    def fsync(self, descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        self._fail(f"fsync {kind}")
        self._fsync(descriptor)
        self.steps.append(f"fsync {kind}")

    def rename(self, source: Any, target: Any, **folders: int) -> None:
        self._fail(f"rename {target}")
        self._rename(source, target, **folders)
        self.steps.append(f"rename {target}")

    def open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            self._fail("create")
        return self._open(path, flags, *rest, **options)

    def _fail(self, call: str) -> None:
        if number := self.failing.get(call):
            raise OSError(number, os.strerror(number))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def types(outcomes: list[base.Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


async def test_a_batch_syncs_each_file_and_then_the_folder_once(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "a", "1")
        disk.steps.clear()
        outcomes = await backend.execute(DOMAIN, [Set("b", "1"), Delete("a"), Set("c", "1")])
        assert types(outcomes) == [base.Written, base.Deleted, base.Written]
        steps = [step for step in disk.steps if not step.startswith("rename .")]
        assert steps == ["fsync file", "fsync file", "rename b.json", "rename c.json", "fsync folder"]


async def test_the_files_of_a_batch_wait_for_the_disk_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "first", "1")
        backend._store._high_water.kept = 2**53
        fsync, together = os.fsync, threading.Barrier(4)

        def fsync_together(descriptor: int) -> None:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                together.wait(10)
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync_together)
            outcomes = await backend.execute(DOMAIN, [Set(f"k{number}", "1") for number in range(8)])
        revisions = [outcome.revision for outcome in outcomes if isinstance(outcome, base.Written)]
        assert revisions == sorted(set(revisions))
        assert len(revisions) == 8


async def test_what_is_written_twice_or_read_in_between_is_so_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as backend:
        outcomes = await backend.execute(
            DOMAIN, [Set("a", "1"), Set("b", "1"), Set("a", "2"), Get("a"), Set("a", "3"), Get("b")]
        )
        found = outcomes[3]
        assert isinstance(found, base.Lookup)
        assert found.entry is not None
        assert found.entry.value == "2"
        assert (await entries_of(backend))[0] == {"a": "3", "b": "1"}


async def test_a_full_disk_refuses_sets_and_lets_deletions_through(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as backend:
        await backend.execute(DOMAIN, [Set("a", "1"), Set("b", "1")])
        disk.failing["create"] = errno.ENOSPC
        operations: list[base.Operation] = [
            Set("a", "2"),
            Delete("b"),
            Set("c", "1"),
            Set("d", "1", condition=5),
        ]
        # Also if the revision cannot be kept.
        for kept, gone in ((2**53, True), (0, False)):
            backend._store._high_water.kept = kept
            full, deleted, also, failed = await backend.execute(DOMAIN, operations)
            assert isinstance(full, StorageFullError)
            assert isinstance(deleted, base.Deleted)
            assert deleted.existed == gone
            assert isinstance(also, StorageFullError)
            assert isinstance(failed, ConditionFailedError)
        disk.failing.clear()
        assert (await entries_of(backend))[0] == {"a": "1"}
        assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["a.json"]


async def test_a_file_that_cannot_be_placed_fails_alone(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "a", "1")
        disk.failing["rename b.json"] = errno.EACCES
        outcomes = await backend.execute(DOMAIN, [Set("a", "2"), Set("b", "1"), Set("c", "1")])
        assert types(outcomes) == [base.Written, BackendUnavailableError, base.Written]
        assert sorted(await keys_of(backend)) == ["a", "c"]
        assert not [file for file in (tmp_path / FOLDER).iterdir() if file.suffix == ".tmp"]


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_failed_fsync_acknowledges_nothing_and_ends_writing(
    tmp_path: Path, disk: Disk, what: str
) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "a", "1")
        disk.failing[f"fsync {what}"] = errno.EIO
        outcomes = await backend.execute(DOMAIN, [Set("a", "2"), Set("b", "1"), Delete("c")])
        assert types(outcomes)[:2] == [BackendUnavailableError] * 2
        disk.failing.clear()
        assert types(await backend.execute(DOMAIN, [Set("d", "1"), Get("d")])) == [
            BackendUnavailableError,
            base.Lookup,
        ]


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as backend:
        await backend.set_value(DOMAIN, "a", "1")
        shutil.rmtree(tmp_path / FOLDER)
        outcomes = await backend.execute(DOMAIN, [Set("b", "1"), Delete("a"), Set("c", "1")])
        assert types(outcomes) == [base.Written, base.Deleted, base.Written]
        assert sorted(await keys_of(backend)) == ["b", "c"]


async def test_batches_with_the_same_keys_in_another_order_do_not_block_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as backend:
        keys = [f"k{number}" for number in range(30)]
        batches: list[list[base.Operation]] = [
            [Set(key, "1") for key in keys],
            [Delete(key) for key in keys[::-1]],
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(backend.execute(DOMAIN, batch) for batch in batches * 6))
