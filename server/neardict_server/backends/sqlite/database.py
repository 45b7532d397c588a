"""The database file: its schema, how it is opened, and what its errors mean."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ...errors import BackendUnavailableError, CorruptEntryError, StorageError, StorageFullError
from .. import base
from ..request_ids import parts_of

# The version of the schema, in PRAGMA user_version.
SCHEMA_VERSION = 2
# Apart, since the version before has the rest.
RESULTS = """
-- Results of recent writes whose request ids differ in their last character alone: clients count, and a row
-- for each takes several times as long. results: JSON, [key, revision, expires, existed] by that character;
-- existed is null for a set. A row that changes is written anew: ids ascend with `at`, the time of its last.
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL,
    stem TEXT NOT NULL,
    results TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (domain, stem)
);
"""
SCHEMA = f"""
CREATE TABLE domains (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL);
-- value: TEXT is JSON, BLOB is raw. expires: microseconds since the epoch, NULL for never.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL REFERENCES domains,
    key TEXT NOT NULL,
    value NOT NULL,
    revision INTEGER NOT NULL,
    expires INTEGER,
    UNIQUE (domain, key)
);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
{RESULTS}
-- What changed, for watchers that resume: the present state of a key is in entries. Without a revision
-- of a domain in here, or a greater one of any, older changes of it may have been trimmed.
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    domain INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (revision, domain)
) WITHOUT ROWID;
"""


def open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    # A lock that another program, such as the sqlite3 shell, holds for a moment.
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the file durable and gives a new one its schema; leaves a file of others as it is."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    common = {"changes", "domains", "entries"}
    if version == 1 and names >= common | {"requests"}:
        _raise_to_2(connection)
        version, names = SCHEMA_VERSION, names | {"results"}
    ours = version == SCHEMA_VERSION and names >= common | {"results"}
    if not ours and (version or names):
        raise ValueError(f"{path} is a database of something else, or of another version of neardict")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ValueError(f"{path} cannot be in WAL mode: put it on a local disk")
    # In WAL mode FULL is what makes a commit wait for the disk.
    connection.execute("PRAGMA synchronous = FULL")
    # Pages that are written again and again, as with random request ids, go from the WAL to the file more
    # seldom, and are not read again in between: 16 and 32 MiB.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA cache_size = -32768")
    if not ours:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _raise_to_2(connection: sqlite3.Connection) -> None:
    """Brings a file of version 1, which had a row for each request, to version 2."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(RESULTS)
    rows = connection.execute(
        "SELECT domain, request_id, key, revision, expires, existed, at FROM requests ORDER BY id"
    )
    together: dict[tuple[int, str], tuple[dict[str, list[Any]], int]] = {}
    for domain, request_id, *result, at in rows:
        stem, last = parts_of(request_id)
        results, _ = together.get((domain, stem), ({}, 0))
        results[last] = result
        together[domain, stem] = (results, at)
    connection.executemany(
        "INSERT INTO results (domain, stem, results, at) VALUES (?, ?, ?, ?)",
        [(*where, orjson.dumps(results).decode(), at) for where, (results, at) in together.items()],
    )
    connection.execute("DROP TABLE requests")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def begin(connection: sqlite3.Connection, clock: base.Clock) -> int:
    """Returns the revision of domains that nobody has written to, in this run.

    It is above all that went before, also where an empty file has replaced another: clients would take the
    answer for an old one. The nameless domain keeps it, in case the clock goes back.
    """
    (latest,) = connection.execute("SELECT max(revision) FROM domains").fetchone()
    started = base.next_revision(latest or 0, clock())
    # A disk that is full can be read.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("INSERT OR REPLACE INTO domains (name, revision) VALUES ('', ?)", (started,))
    return started


@contextlib.contextmanager
def translated(backend: str = "") -> Iterator[None]:
    """Raises a StorageError, which names the backend, for an error of SQLite."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, backend) from error


def translate(error: sqlite3.Error, backend: str = "") -> StorageError:
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError("the disk, or the database, is full: free some room")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptEntryError("the database is damaged: restore it, or recover it with the sqlite3 shell")
    return BackendUnavailableError(f"{called(backend)} cannot be used now; the server's log tells why")


def called(backend: str) -> str:
    """Returns what messages call the database of the backend."""
    return f"SQLite (backend `{backend}`)" if backend else "the database"


def primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
