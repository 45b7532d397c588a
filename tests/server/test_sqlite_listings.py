"""Listings of the sqlite backend."""

import asyncio
from pathlib import Path

import pytest

from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.backends.sqlite import backend as sqlite_backend


@pytest.mark.parametrize("few", [5, 100])
async def test_the_first_page_tells_how_many_entries_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(sqlite_backend, "_FEW", few)
    backend = SqliteBackend(tmp_path / "kept in.sqlite3")
    try:
        await asyncio.gather(*(backend.set_value("d", f"{number}", "1") for number in range(20)))
        await backend.set_value("another", "key", "1")
        assert [page.total async for page in backend.all_keys("d", entries=True)] == [20]
        assert [page.total async for page in backend.all_keys("d", prefix="1", entries=True)] == [0]
        assert [page.total async for page in backend.all_keys("none", entries=True)] == [0]
    finally:
        await backend.close()
