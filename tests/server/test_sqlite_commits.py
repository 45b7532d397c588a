"""sqlite: writes that gather share a commit, are acknowledged after it, and succeed or fail each alone."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from neardict_server.backends import base
from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.backends.sqlite.writer import MAX_BATCH
from neardict_server.errors import BackendUnavailableError, ConditionFailedError
from waiting import DEADLINE_SECONDS


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path))
    yield backend
    await backend.close()


class Watch:
    """Sees what the writer is about to do, counts its commits, and can hold one up."""

    def __init__(self, backend: SqliteBackend) -> None:
        self.commits = 0
        self.begins = threading.Event()
        self.commit_reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        backend._writer._transaction._connection.set_trace_callback(self._see)

    def _see(self, statement: str) -> None:
        # Called in the writer's thread, before the statement is carried out.
        if statement == "BEGIN IMMEDIATE":
            self.begins.set()
        if statement == "COMMIT":
            self.commits += 1
            self.commit_reached.set()
            assert self.go_on.wait(DEADLINE_SECONDS)


@pytest.fixture
def watch(backend: SqliteBackend) -> Watch:
    return Watch(backend)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps the writer waiting, as another program does that writes to the file."""
    with closing(sqlite3.connect(folder / "neardict.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def rows(folder: Path) -> set[tuple[str, str]]:
    """Returns what another process would find in the file now."""
    with closing(sqlite3.connect(folder / "neardict.sqlite3")) as other:
        return set(other.execute("SELECT key, value FROM entries"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


async def gathered(
    backend: SqliteBackend, watch: Watch, folder: Path, count: int
) -> list[asyncio.Task[base.Written]]:
    """Returns writes that were begun while the first of them waited for the lock of the file."""
    with locked(folder):
        watch.begins.clear()
        first = asyncio.create_task(backend.set_value("d", "first", "1"))
        await until(watch.begins.is_set)
        tasks = [asyncio.create_task(backend.set_value("d", f"k{n}", str(n))) for n in range(count)]
        await until(lambda: backend._writer._jobs.qsize() == count)
        assert not any(task.done() for task in (first, *tasks))
    return [first, *tasks]


async def test_writes_that_gather_while_one_is_under_way_share_a_commit(
    backend: SqliteBackend, watch: Watch, tmp_path: Path
) -> None:
    written = await asyncio.gather(*await gathered(backend, watch, tmp_path, 100))
    assert watch.commits == 2
    revisions = [write.revision for write in written]
    assert revisions == sorted(set(revisions))
    assert len(rows(tmp_path)) == 101


async def test_a_commit_takes_a_bounded_number_of_writes(
    backend: SqliteBackend, watch: Watch, tmp_path: Path
) -> None:
    await asyncio.gather(*await gathered(backend, watch, tmp_path, 2 * MAX_BATCH + 1))
    assert watch.commits == 1 + 3
    assert len(rows(tmp_path)) == 2 * MAX_BATCH + 2


async def test_nobody_hears_of_a_write_before_it_is_committed(
    backend: SqliteBackend, watch: Watch, tmp_path: Path
) -> None:
    watch.go_on.clear()
    write = asyncio.create_task(backend.set_value("d", "k", "1"))
    await until(watch.commit_reached.is_set)
    for _ in range(10):
        await asyncio.sleep(0.001)
        assert not write.done()
        assert rows(tmp_path) == set()
        assert (await backend.get_value("d", "k")).entry is None
        assert [page.keys async for page in backend.all_keys("d")] == [[]]
    watch.go_on.set()
    await write
    assert rows(tmp_path) == {("k", "1")}


async def test_what_is_acknowledged_is_in_the_file(backend: SqliteBackend, tmp_path: Path) -> None:
    async def write(number: int) -> None:
        await backend.set_value("d", f"k{number}", str(number))
        assert (f"k{number}", str(number)) in rows(tmp_path)

    await asyncio.gather(*map(write, range(50)))
    await backend.delete_key("d", "k0")
    assert ("k0", "0") not in rows(tmp_path)


async def test_a_condition_that_fails_fails_alone(
    backend: SqliteBackend, watch: Watch, tmp_path: Path
) -> None:
    with locked(tmp_path):
        first = asyncio.create_task(backend.set_value("d", "k", "1"))
        await until(watch.begins.is_set)
        results = asyncio.gather(
            backend.set_value("d", "a", "1", condition=base.ABSENT),
            backend.set_value("d", "k", "2", condition=base.ABSENT),
            backend.set_value("d", "b", "1"),
            backend.delete_key("d", "c", condition=7),
            # Sees what the one before it in the same commit did.
            backend.set_value("d", "a", "2", condition=base.ABSENT),
            backend.delete_key("d", "b"),
            return_exceptions=True,
        )
        await until(lambda: backend._writer._jobs.qsize() == 6)
    k, (a, failed_k, b, failed_c, failed_a, deleted_b) = await first, await results
    assert watch.commits == 2
    assert isinstance(a, base.Written)
    assert isinstance(b, base.Written)
    assert isinstance(deleted_b, base.Deleted)
    assert deleted_b.existed
    for failed, current in ((failed_k, k.revision), (failed_c, base.ABSENT), (failed_a, a.revision)):
        assert isinstance(failed, ConditionFailedError)
        assert failed.current_revision == current
    assert rows(tmp_path) == {("k", "1"), ("a", "1")}


async def test_callers_who_are_cancelled_leave_the_others_alone(
    backend: SqliteBackend, watch: Watch, tmp_path: Path
) -> None:
    tasks = await gathered(backend, watch, tmp_path, 20)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert all(isinstance(result, base.Written) for result in results[1::2])
    # In a queue they cannot be told from the others, so they took effect, as a whole.
    await backend.set_value("d", "last", "1")
    assert len(rows(tmp_path)) == 22


async def test_closing_completes_what_is_queued(tmp_path: Path) -> None:
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path))
    tasks = await gathered(backend, Watch(backend), tmp_path, 50)
    assert not all(task.done() for task in tasks)
    await backend.close()
    assert len({(await task).revision for task in tasks}) == 51
    assert len(rows(tmp_path)) == 51
    for call in (backend.set_value("d", "k", "1"), backend.delete_key("d", "k")):
        with pytest.raises(BackendUnavailableError, match="closing"):
            await call
    # Nothing is left of the WAL, and the file may be opened by the next.
    assert {path.name for path in tmp_path.iterdir()} == {"neardict.sqlite3", "neardict.sqlite3.lock"}


async def test_many_writers_and_readers_at_once_see_increasing_revisions(backend: SqliteBackend) -> None:
    seen: list[int] = []
    done = False

    async def read() -> None:
        while not done:
            entry, revision = await backend.get_value("d", "k")
            assert entry is None or entry.revision <= revision
            seen.append(revision)
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    for _ in range(20):
        await asyncio.gather(*(backend.set_value("d", "k", str(n)) for n in range(20)))
    done = True
    await reader
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
