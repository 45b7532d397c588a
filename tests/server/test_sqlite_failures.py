"""sqlite: a full disk, an I/O error, a damaged file and mistakes of ours, and what comes after each."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from neardict.v1 import storage_pb2 as pb
from neardict_server.backends import base
from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.backends.sqlite import backend as opening
from neardict_server.errors import BackendUnavailableError, CorruptEntryError, StorageFullError
from served import Served
from wire import Refusal, ask


class Failing(sqlite3.Connection):
    """A connection whose next statement of a kind fails as it is told to."""

    # By the statement's text: the code that SQLite gives.
    plans: ClassVar[dict[str, int]] = {}

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        code = self.plans.pop(statement, None)
        if code is not None:
            error = sqlite3.OperationalError("planned")
            error.sqlite_errorcode = code
            raise error
        return super().execute(statement, *parameters)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    def open_file(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing)

    monkeypatch.setattr(opening, "open_file", open_file)
    Failing.plans.clear()
    return Failing.plans


async def open_backend(folder: Path) -> SqliteBackend:
    return await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(folder))


@pytest.fixture
async def backend(tmp_path: Path, plans: dict[str, int]) -> AsyncIterator[SqliteBackend]:
    backend = await open_backend(tmp_path)
    yield backend
    await backend.close()


async def value_of(backend: SqliteBackend, key: str) -> base.Value | None:
    entry = (await backend.get_value("d", key)).entry
    return None if entry is None else entry.value


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_or_replaced_takes_no_more_writes_and_the_log_says_so(
    replaced: bool, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    write = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="1"))
    with Served("--data", data) as server:
        with grpc.insecure_channel(server.address) as channel:
            assert isinstance(ask(channel, "SetValue", write), bytes)
            shutil.rmtree(data)
            if replaced:
                data.mkdir()
                (data / "neardict.sqlite3").touch()
            refused = ask(channel, "SetValue", write)
        assert isinstance(refused, Refusal)
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert "the file of SQLite (backend `sqlite`) was removed, or replaced" in refused.message
        assert server.stop() == 0
    assert (
        server.output.count("cannot be used any more: the file of SQLite (backend `sqlite`) was removed") == 1
    )


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
async def test_a_write_that_meets_an_io_error_fails_and_so_do_all_after_it(
    statement: str, backend: SqliteBackend, plans: dict[str, int], tmp_path: Path
) -> None:
    await backend.set_value("d", "before", "1")
    plans[statement] = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(BackendUnavailableError):
        await backend.set_value("d", "k", "1")
    for call in (backend.set_value("d", "k", "2"), backend.delete_key("d", "before")):
        with pytest.raises(BackendUnavailableError, match="check the disk, then restart"):
            await call
    # What was acknowledged can be read, and what was not has had no effect.
    assert await value_of(backend, "before") == "1"
    assert await value_of(backend, "k") is None
    await backend.close()
    again = await open_backend(tmp_path)
    assert await value_of(again, "before") == "1"
    await again.set_value("d", "k", "3")
    await again.close()


async def test_all_writes_of_a_commit_that_fails_are_told_so(
    backend: SqliteBackend, plans: dict[str, int]
) -> None:
    plans["COMMIT"] = sqlite3.SQLITE_FULL
    results = await asyncio.gather(
        *(backend.set_value("d", f"k{n}", "1") for n in range(20)), return_exceptions=True
    )
    failed = [n for n, result in enumerate(results) if isinstance(result, StorageFullError)]
    assert failed
    for number, result in enumerate(results):
        assert isinstance(result, StorageFullError | base.Written)
        assert (await value_of(backend, f"k{number}") is None) == (number in failed)


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFullError),
        (sqlite3.SQLITE_BUSY, BackendUnavailableError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, BackendUnavailableError),
        (sqlite3.SQLITE_NOMEM, BackendUnavailableError),
        (sqlite3.SQLITE_CANTOPEN, BackendUnavailableError),
        (sqlite3.SQLITE_READONLY, BackendUnavailableError),
    ],
)
async def test_what_may_pass_fails_one_commit_and_the_next_works(
    statement: str, code: int, kind: type[Exception], backend: SqliteBackend, plans: dict[str, int]
) -> None:
    plans[statement] = code
    with pytest.raises(kind):
        await backend.set_value("d", "k", "1", request_id="r")
    # As if it had never been sent: the same request may be made again.
    assert await value_of(backend, "k") is None
    written = await backend.set_value("d", "k", "1", request_id="r")
    assert await backend.set_value("d", "k", "1", request_id="r") == written
    assert await value_of(backend, "k") == "1"


async def test_a_mistake_of_ours_fails_its_commit_and_writing_goes_on(backend: SqliteBackend) -> None:
    # No such text comes through the contract.
    with pytest.raises(UnicodeEncodeError):
        await backend.set_value("d", "\ud800", "1")
    with pytest.raises(ZeroDivisionError):
        await backend._writer.submit(lambda _: 1 // 0)
    await backend.set_value("d", "k", "1")
    assert await value_of(backend, "k") == "1"


async def test_a_database_that_is_full_refuses_writes_until_there_is_room(backend: SqliteBackend) -> None:
    (pages,) = backend._writer._transaction._connection.execute("PRAGMA page_count").fetchone()
    backend._writer._transaction._connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    kept = 0
    with contextlib.suppress(StorageFullError):
        while kept < 1000:
            await backend.set_value("d", f"k{kept}", b"x" * 1000)
            kept += 1
    assert 10 < kept < 1000
    # Reads go on, a smaller value in the place of another has room, and deleting makes some.
    assert len([key async for page in backend.all_keys("d") for key in page.keys]) == kept
    await backend.set_value("d", "k0", "1")
    for number in range(1, kept):
        await backend.delete_key("d", f"k{number}")
    await backend.set_value("d", "again", b"x" * 1000)
    assert await value_of(backend, "k0") == "1"


async def test_a_damaged_file_is_data_loss_and_no_crash(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path)
    for number in range(200):
        await backend.set_value("d", f"k{number:03}", b"x" * 1000)
    await backend.close()
    path = tmp_path / "neardict.sqlite3"
    content = bytearray(path.read_bytes())
    page = 4096
    # Spares the first pages, which hold the schema and the roots of the tables.
    for start in range(12 * page, len(content), page):
        content[start : start + page] = b"\xa5" * page
    path.write_bytes(content)
    backend = await open_backend(tmp_path)
    with pytest.raises(CorruptEntryError, match="the database is damaged"):
        await read_all(backend)
    # The keys are readable, apart from the entries, and named.
    pages = [page async for page in backend.all_keys("d", entries=True)]
    unreadable = [key for page in pages for key in page.unreadable]
    assert unreadable
    assert sorted([*unreadable, *(entry.key for page in pages for entry in page.entries)]) == [
        f"k{number:03}" for number in range(200)
    ]
    await backend.close()


async def read_all(backend: SqliteBackend) -> None:
    for number in range(200):
        await backend.get_value("d", f"k{number:03}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with three megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "neardict-test", folder], capture_output=True, check=False
    )
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("needs the permission to mount a small disk, as root in a container with it has")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_server_on_a_full_disk_reads_restarts_and_writes_again_when_there_is_room(
    small_disk: Path,
) -> None:
    def write(address: str, key: str) -> bytes | Refusal:
        with grpc.insecure_channel(address) as channel:
            value = pb.Value(raw=key.encode() * 1000)
            return ask(channel, "SetValue", pb.SetValueRequest(domain="d", key=key, value=value))

    def check(address: str, count: int) -> None:
        with grpc.insecure_channel(address) as channel:
            listed = ask(channel, "AllKeys", pb.AllKeysRequest(domain="d"))
            assert isinstance(listed, bytes)
            assert len(pb.AllKeysResponse.FromString(listed).keys) == count
            for number in range(count):
                answer = ask(channel, "GetValue", pb.GetValueRequest(domain="d", key=f"key-{number}"))
                assert isinstance(answer, bytes)
                entry = pb.GetValueResponse.FromString(answer).entry
                assert entry.value.raw == f"key-{number}".encode() * 1000

    with Served("--data", small_disk) as server:
        count = 0
        while isinstance(answer := write(server.address, f"key-{count}"), bytes):
            count += 1
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
        check(server.address, count)
        server.kill()
        # Every block is taken now, also those that the server might have hoped for.
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            while filler_written(filler):
                pass
        server.start()
        check(server.address, count)
        answer = write(server.address, "one more")
        assert isinstance(answer, Refusal)
        assert answer.reason == "STORAGE_FULL"
        (small_disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
        assert isinstance(write(server.address, f"key-{count}"), bytes)
        check(server.address, count + 1)
        assert server.stop() == 0


def filler_written(file: Any) -> bool:
    try:
        return bool(file.write(b"\0" * 4096))
    except OSError:
        return False
