"""sqlite: what has expired is removed from the file in the background, a bounded part at a time."""

import asyncio
import queue
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from model import Clock
from neardict_server.backends import base
from neardict_server.backends.request_ids import WINDOW
from neardict_server.backends.sqlite import SqliteBackend, transaction, writer
from waiting import DEADLINE_SECONDS

SECOND = 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def backend(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SqliteBackend]:
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 0.01)
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path, clock))
    yield backend
    await backend.close()


def count(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(folder / "neardict.sqlite3")) as other:
        return int(other.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Sweeps:
    """Sees how often the writer looks for what has expired, and removes some."""

    def __init__(self, backend: SqliteBackend) -> None:
        self.made = 0
        self.looks = 0
        backend._writer._transaction._connection.set_trace_callback(self._see)

    def _see(self, statement: str) -> None:
        if statement.startswith("DELETE FROM entries"):
            self.made += 1
        if statement.startswith("SELECT EXISTS"):
            self.looks += 1


async def test_expired_entries_leave_the_file_without_a_further_write(
    backend: SqliteBackend, clock: Clock, tmp_path: Path
) -> None:
    await asyncio.gather(
        *(backend.set_value("d", f"k{n}", "1", ttl=(n + 1) * SECOND) for n in range(10)),
        backend.set_value("d", "stays", "1"),
    )
    revision = (await backend.get_value("d", "stays")).domain_revision
    clock.now += 5 * SECOND
    await until(lambda: count(tmp_path, "entries") == 6)
    clock.now += 5 * SECOND
    await until(lambda: count(tmp_path, "entries") == 1)
    # Each has a revision of its own, so that caches learn of it in order.
    assert (await backend.get_value("d", "stays")).domain_revision >= revision + 10


async def test_old_request_ids_leave_the_file_without_a_further_write(
    backend: SqliteBackend, clock: Clock, tmp_path: Path
) -> None:
    for number in range(5):
        await backend.set_value("d", "k", "1", request_id=f"old-{number}-")
    clock.now += WINDOW - 1
    await backend.delete_key("d", "k", request_id="new")
    assert count(tmp_path, "results") == 6
    clock.now += 1
    await until(lambda: count(tmp_path, "results") == 1)
    clock.now += WINDOW
    await until(lambda: count(tmp_path, "results") == 0)


async def test_results_of_ids_that_count_up_share_a_row_which_lasts_as_long_as_its_last(
    backend: SqliteBackend, clock: Clock, tmp_path: Path
) -> None:
    first = await backend.set_value("d", "k", "1", request_id="run-10")
    await backend.execute("d", [base.Set("other", "1", request_id=f"run-1{at:x}") for at in range(1, 9)])
    clock.now += WINDOW - 1
    await backend.execute("d", [base.Set("other", "1", request_id=f"run-1{at:x}") for at in range(9, 18)])
    assert count(tmp_path, "results") == 2  # run-1, run-11
    clock.now += WINDOW - 1
    assert await backend.set_value("d", "k", "1", request_id="run-10") == first
    clock.now += 1
    await until(lambda: count(tmp_path, "results") == 0)
    assert await backend.set_value("d", "k", "1", request_id="run-10") != first


async def test_a_sweep_removes_a_bounded_number_of_rows(
    backend: SqliteBackend, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "SWEEP_ROWS", 10)
    await asyncio.gather(*(backend.set_value("d", f"k{n}", "1", ttl=SECOND) for n in range(35)))
    sweeping = Sweeps(backend)
    clock.now += SECOND
    await until(lambda: count(tmp_path, "entries") == 0)
    assert sweeping.made >= 4


async def test_an_idle_writer_with_nothing_to_sweep_writes_nothing(
    backend: SqliteBackend, clock: Clock, tmp_path: Path
) -> None:
    await backend.set_value("d", "k", "1", ttl=SECOND)
    await backend.set_value("d", "k", "1", request_id="r")
    sweeping = Sweeps(backend)
    await until(lambda: sweeping.looks >= 3)
    assert sweeping.made == 0


async def test_a_file_that_slept_past_expiries_wakes_without_them(clock: Clock, tmp_path: Path) -> None:
    surroundings = base.Surroundings(tmp_path, clock)
    backend = await SqliteBackend.open(SqliteBackend.Settings(), surroundings)
    for number in range(20):
        await backend.set_value("d", f"k{number}", "1", ttl=SECOND)
    await backend.close()
    clock.now += 3600 * SECOND
    backend = await SqliteBackend.open(SqliteBackend.Settings(), surroundings)
    assert [page.keys async for page in backend.all_keys("d")] == [[]]
    assert (await backend.get_value("d", "k0")).entry is None
    await backend.set_value("d", "k0", "2", condition=base.ABSENT)
    assert count(tmp_path, "entries") == 1
    await backend.close()


async def test_watchers_hear_of_what_is_deleted_after_it_expired(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 3600)
    heard: list[tuple[str, base.Value | None]] = []
    surroundings = base.Surroundings(
        tmp_path, clock, publish=lambda domain, previous, change: heard.append((change.key, change.value))
    )
    backend = await SqliteBackend.open(SqliteBackend.Settings(), surroundings)
    await backend.set_value("d", "k", "1", ttl=SECOND)
    clock.now += SECOND
    # They may show it still, by a clock of their own, and no sweep will find it any more.
    deleted = await backend.delete_key("d", "k")
    assert not deleted.existed
    assert heard == [("k", "1"), ("k", None)]
    assert deleted.revision == (await backend.get_value("d", "k")).domain_revision
    await backend.close()


async def test_watchers_are_told_of_an_expiry_when_it_comes_not_when_the_writer_looks_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 3600.0)
    told: list[str] = []

    def publish(domain: str, previous: int, change: base.Change) -> None:
        if change.value is None:
            told.append(change.key)

    surroundings = base.Surroundings(tmp_path, base.wall_clock, publish)
    backend = await SqliteBackend.open(SqliteBackend.Settings(), surroundings)
    try:
        for number in (2, 1, 3):
            await backend.set_value("d", f"k{number}", "1", ttl=number * SECOND // 10)
        await until(lambda: told == ["k1", "k2", "k3"])
    finally:
        await backend.close()


@pytest.mark.parametrize(
    ("seconds", "swept", "expected"),
    [
        (0.25, False, 0.25),
        (50.0, True, 1.0),
        (-3.0, True, 0.0),
        (-3.0, False, 1.0),
        (float("inf"), False, 1.0),
    ],
)
def test_what_cannot_be_swept_is_not_tried_without_a_rest(
    seconds: float, swept: bool, expected: float
) -> None:
    idle = SimpleNamespace(
        _broken=None,
        _jobs=queue.SimpleQueue(),
        _transaction=SimpleNamespace(seconds_to_expiry=lambda: seconds),
    )
    assert writer.Writer._sweep_after(idle, swept=swept) == expected  # type: ignore[arg-type]  # its part
