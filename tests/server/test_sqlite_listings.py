"""Listings of the sqlite backend."""

import asyncio
from pathlib import Path

import pytest

from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.backends.sqlite import backend as sqlite_backend
from neardict_server.errors import CorruptEntryError
from sqlite_damage import damage


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


async def test_a_damaged_page_of_entries_is_left_out_of_a_listing_which_names_them(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite3"
    backend = SqliteBackend(path)
    keys = [f"k{number:04}" for number in range(300)]
    await asyncio.gather(*(backend.set_value("d", key, b"x" * 300) for key in keys))
    await backend.set_value("d", "gone", "1", ttl=1)
    await backend.close()
    damage(path)
    backend = SqliteBackend(path)
    try:
        for prefix in ("", "k", "k0"):
            pages = [page async for page in backend.all_keys("d", prefix=prefix, entries=True)]
            readable = [entry.key for page in pages for entry in page.entries]
            unreadable = [key for page in pages for key in page.unreadable]
            assert 0 < len(unreadable) < 50
            assert sorted([*readable, *unreadable]) == keys
            assert [page.total for page in pages][1:] == [0] * (len(pages) - 1)
            assert {page.domain_revision for page in pages} == {pages[0].domain_revision}
            assert [key async for page in backend.all_keys("d", prefix=prefix) for key in page.keys] == keys
            for key in unreadable:
                with pytest.raises(CorruptEntryError):
                    await backend.get_value("d", key)
            for key in readable[:10]:
                assert (await backend.get_value("d", key)).entry is not None
    finally:
        await backend.close()


async def test_where_the_keys_themselves_cannot_be_read_a_listing_fails(tmp_path: Path) -> None:
    # To leave them out would be to say that they are absent.
    path = tmp_path / "kept.sqlite3"
    backend = SqliteBackend(path)
    await asyncio.gather(*(backend.set_value("d", f"k{number:04}", b"x" * 300) for number in range(300)))
    await backend.close()
    damage(path, index=True)
    backend = SqliteBackend(path)
    try:
        for entries in (True, False):
            with pytest.raises(CorruptEntryError):
                [page async for page in backend.all_keys("d", entries=entries)]
    finally:
        await backend.close()
