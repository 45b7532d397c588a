"""What keeps a server from starting: it says what and where, ends with 1, and harms no file."""

import os
import re
import sqlite3
from importlib import metadata
from pathlib import Path

import pytest

from neardict_server.app import serving
from neardict_server.backends import base
from neardict_server.backends.sqlite import SCHEMA_VERSION, SqliteBackend
from neardict_server.config import BackendConfig, Config
from neardict_server.startup import StartError
from redis_server import RedisServer
from starting import start_and_fail


def unwritable(folder: Path) -> Path:
    """Returns the path of a folder that this user cannot make."""
    if os.geteuid() != 0:
        (folder / "closed").mkdir(mode=0o500)
        return folder / "closed" / "data"
    # Root may write almost everywhere.
    return Path("/sys/neardict")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    data = unwritable(tmp_path)
    said = start_and_fail("--data", data)
    assert "Error: backends.sqlite: " in said
    assert str(data) in said


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    said = start_and_fail("--data", tmp_path / "data")
    assert "Error: backends.sqlite: " in said
    assert str(tmp_path / "data") in said
    assert (tmp_path / "data").read_text() == "mine"


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    text = "a letter, and longer than the header of a database, which has one hundred bytes. " * 20
    (tmp_path / "neardict.sqlite3").write_text(text)
    said = start_and_fail("--data", tmp_path)
    assert f"Error: backends.sqlite: {tmp_path / 'neardict.sqlite3'} cannot be opened as a database" in said
    assert (tmp_path / "neardict.sqlite3").read_text() == text


async def refused(path: Path) -> str:
    """Returns why the backend does not open the file, which must be as it was."""
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        await SqliteBackend.open(SqliteBackend.Settings(path=path), base.Surroundings(path.parent))
    assert path.read_bytes() == before
    # It keeps nothing locked or open: another may have the file at once.
    connection = sqlite3.connect(path, timeout=0)
    connection.execute("CREATE TABLE more (x)")
    connection.close()
    return str(caught.value)


def database(path: Path, script: str) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION, 7])
async def test_a_database_of_something_else_is_refused_and_left_alone(version: int, tmp_path: Path) -> None:
    script = (
        f"CREATE TABLE entries (a, b); INSERT INTO entries VALUES (1, 2); PRAGMA user_version = {version}"
    )
    why = await refused(database(tmp_path / "other.sqlite3", script))
    assert "is a database of something else, or of another version of neardict" in why


async def test_a_file_of_the_version_before_is_brought_up_with_what_it_remembers(tmp_path: Path) -> None:
    path = tmp_path / "neardict.sqlite3"
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path))
    written = await backend.set_value("d", "k", "1")
    deleted = await backend.delete_key("d", "other")
    await backend.close()
    rows = [
        ("prefix-0a", "k", written.revision, None, None),
        ("prefix-0b", "other", deleted.revision, None, 0),
        ("é", "k", written.revision, None, None),
    ]
    now = base.wall_clock()
    values = ", ".join(
        f"((SELECT id FROM domains WHERE name = 'd'), '{name}', '{key}', {revision}, "
        f"{'NULL' if expires is None else expires}, {'NULL' if existed is None else existed}, {now})"
        for name, key, revision, expires, existed in rows
    )
    database(
        path,
        "DROP TABLE results; CREATE TABLE requests (id INTEGER PRIMARY KEY, domain INTEGER NOT NULL, "
        "request_id TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, expires INTEGER, "
        "existed INTEGER, at INTEGER NOT NULL, UNIQUE (domain, request_id)); "
        "INSERT INTO requests (domain, request_id, key, revision, expires, existed, at) "
        f"VALUES {values}; PRAGMA user_version = 1",
    )
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path))
    try:
        assert await backend.set_value("d", "k", "2", request_id="prefix-0a") == written
        assert await backend.delete_key("d", "other", request_id="prefix-0b") == deleted
        assert await backend.set_value("d", "k", "2", request_id="é") == written
        entry = (await backend.get_value("d", "k")).entry
        assert entry is not None
        assert entry.value == "1"
    finally:
        await backend.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "neardict.sqlite3"
    backend = await SqliteBackend.open(SqliteBackend.Settings(), base.Surroundings(tmp_path))
    await backend.set_value("d", "k", "1")
    await backend.close()
    database(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert "of another version of neardict" in await refused(path)


async def test_where_there_is_no_wal_it_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a network file system: by this name SQLite keeps no file that a WAL could stand beside.
    monkeypatch.chdir(tmp_path)
    settings = SqliteBackend.Settings(path=Path(":memory:"))
    with pytest.raises(ValueError, match="cannot be in WAL mode: put it on a local disk"):
        await SqliteBackend.open(settings, base.Surroundings(tmp_path))


async def test_a_path_with_a_nul_is_a_mistake_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null"):
        await SqliteBackend.open(SqliteBackend.Settings(path=tmp_path / "a\0b"), base.Surroundings(tmp_path))


def test_a_wrong_password_of_redis_is_told_without_the_password(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    with RedisServer("--requirepass", "the-right-one") as redis:
        config.write_text(
            f"""
            [backends.shared]
            implementation = "redis"
            settings = {{ port = {redis.port}, password = "planted-and-wrong" }}
            """
        )
        said = start_and_fail("--config", config, "--log-level", "DEBUG")
    assert "Error: backends.shared: redis at localhost" in said
    assert "password" in said
    assert "planted" not in said


def test_mistakes_in_the_settings_of_several_backends_are_told_together(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(
        """
        default = "a"
        [backends.a]
        implementation = "sqlite"
        settings = { pth = "x" }
        [backends.b]
        implementation = "redis"
        settings = { port = "planted", db = -1 }
        [backends.c]
        implementation = "oracle"
        """
    )
    said = start_and_fail("--config", config, "--data", tmp_path / "data")
    assert said.splitlines() == [
        "Error: the configuration has mistakes:",
        "  backends.a.settings.pth: unknown setting; check its spelling, or remove it",
        "  backends.b.settings.port: Input should be a valid integer, unable to parse string as an integer",
        "  backends.b.settings.db: Input should be greater than or equal to 0",
        "  backends.c.implementation: 'oracle' is none of json, memory, null, redis, sqlite",
    ]
    # Nothing was opened on the way.
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("target", ["there.is.none:Backend", "neardict_server.app:Missing"])
async def test_a_backend_of_another_distribution_that_cannot_be_loaded_is_named(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = metadata.EntryPoint("foreign", target, "neardict.backends")
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([point]))
    config = Config(backends={"mine": BackendConfig(implementation="foreign")}, default="mine")
    with pytest.raises(StartError, match=r"backends\.mine\.implementation: foreign cannot be loaded: "):
        async with serving(config):
            pass
