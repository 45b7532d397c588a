"""sqlite: what a watcher who comes back has missed."""

from pathlib import Path

from neardict_server.backends import base
from neardict_server.backends.sqlite import SqliteBackend


async def test_what_was_missed_comes_without_large_values(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "neardict.sqlite3")
    first = await backend.set_value("d", "first", "1")
    small = await backend.set_value("d", "small", b"x" * base.TOLD_BYTES)
    text = await backend.set_value("d", "text", "1" * (base.TOLD_BYTES + 1), ttl=10**10)
    raw = await backend.set_value("d", "raw", b"x" * (base.TOLD_BYTES + 1))
    await backend.set_value("d", "gone", "1")
    gone = await backend.delete_key("d", "gone")
    assert (await backend.position("d", first.revision)).missed == [
        base.Change("small", small.revision, b"x" * base.TOLD_BYTES),
        base.Change("text", text.revision, "", text.expires, told=False),
        base.Change("raw", raw.revision, "", told=False),
        base.Change("gone", gone.revision, None),
    ]
    await backend.close()
