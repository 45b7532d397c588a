"""Keeps entries in one SQLite file: durable when acknowledged, with nothing to set up.

One writer thread takes whatever writes have gathered while the last commit was on its way to the
disk, and commits them together; each is acknowledged after its commit. Reads run on the event loop,
on a connection of their own: in WAL mode they neither wait for the writer nor see uncommitted data.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from ..errors import (
    BackendUnavailableError,
    ConditionFailedError,
    CorruptEntryError,
    StorageError,
    StorageFullError,
)
from ..exclusive import ExclusiveLock
from . import base
from .paging import pages
from .request_ids import WINDOW, reused

logger = logging.getLogger(__name__)

# The version of the schema, in PRAGMA user_version.
SCHEMA_VERSION = 1
SCHEMA = """
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
-- Results of recent writes by request id; ids ascend with time. existed is NULL for a set.
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    expires INTEGER,
    existed INTEGER,
    at INTEGER NOT NULL,
    UNIQUE (domain, request_id)
);
"""

# Bounds the time that one commit may keep its first write waiting.
MAX_BATCH = 1024
# How often an idle writer looks for expired entries, and how many rows a look removes at most.
SWEEP_SECONDS = 1.0
SWEEP_ROWS = 1000


_Result = TypeVar("_Result")


class _Job(NamedTuple):
    run: Callable[["_Transaction"], Any]
    done: asyncio.Future[Any]


class SqliteBackend:
    """One file, one writer thread. Owned by one process, by a lock beside the file."""

    class Settings(base.Settings):
        # The database file; by default neardict.sqlite3 in the server's data folder.
        path: Path | None = None

    capabilities: frozenset[base.Capability] = frozenset(
        {base.Capability.DURABLE, base.Capability.TTL, base.Capability.DURABLE_REQUEST_ID}
    )

    @classmethod
    async def open(cls, settings: Settings, surroundings: base.Surroundings) -> Self:
        path = settings.path or surroundings.data_dir / "neardict.sqlite3"
        return cls(path, surroundings.clock)

    def __init__(self, path: Path, clock: base.Clock = base.wall_clock) -> None:
        """Raises OSError if the file cannot be used or is in use, ValueError if it is no such database."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as opened:
            self._lock = opened.enter_context(ExclusiveLock(path.with_name(f"{path.name}.lock")))
            try:
                self._writer = opened.enter_context(contextlib.closing(_open_file(path)))
                _prepare(self._writer, path)
                self._reader = opened.enter_context(contextlib.closing(_open_file(path)))
                self._reader.execute("PRAGMA query_only = ON")
            except sqlite3.Error as error:
                raise ValueError(f"{path} cannot be opened as a database: {error}") from error
            opened.pop_all()  # from here on `close` closes them
        self._broken: str | None = None
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        with _translated():
            row = self._reader.execute(
                "SELECT d.revision, e.value, e.revision, e.expires FROM domains d "
                "LEFT JOIN entries e ON e.domain = d.id AND e.key = ? WHERE d.name = ?",
                (key, domain),
            ).fetchone()
        if row is None:
            return base.Lookup(None, 0)
        domain_revision, value, revision, expires = row
        if revision is None or (expires is not None and expires <= self._clock()):
            return base.Lookup(None, domain_revision)
        return base.Lookup(base.Entry(key, value, revision, expires), domain_revision)

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: int | None = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        def run(transaction: _Transaction) -> base.Written:
            return transaction.set_value(domain, key, value, ttl, condition, request_id)

        return await self._submit(run)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        def run(transaction: _Transaction) -> base.Deleted:
            return transaction.delete_key(domain, key, condition, request_id)

        return await self._submit(run)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        with _translated():
            row = self._reader.execute(
                "SELECT id, revision FROM domains WHERE name = ?", (domain,)
            ).fetchone()
        domain_id, revision = row or (None, 0)
        columns = "key, value, revision, expires" if entries else "key, '', revision, expires"
        bound, end = "AND key < ?", _after_prefix(prefix)
        if end is None:
            bound, end = "AND ? IS NULL", None
        # In the order of the index, each page after the last key of the one before: a key that stays is
        # met exactly once, whatever is written meanwhile, and no read lasts longer than its page.
        after, operator = prefix, ">="
        while True:
            with _translated():
                cursor = self._reader.execute(
                    f"SELECT {columns} FROM entries WHERE domain = ? AND key {operator} ? {bound} "  # noqa: S608  # constants
                    "AND (expires IS NULL OR expires > ?) ORDER BY key",
                    (domain_id, after, end, self._clock()),
                )
                with contextlib.closing(cursor):
                    page = next(pages(map(base.Entry._make, cursor), revision, entries=entries))
            last = page.entries[-1].key if page.entries else page.keys[-1] if page.keys else None
            if last is None and operator == ">":
                return
            yield page
            if last is None:
                return
            after, operator = last, ">"

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._reader.close()
            self._writer.close()
            self._lock.close()

    async def _submit(self, run: Callable[["_Transaction"], _Result]) -> _Result:
        if self._closed:
            raise BackendUnavailableError("the backend is closing")
        done: asyncio.Future[_Result] = self._loop.create_future()
        self._jobs.put(_Job(run, done))
        return await done

    def _write(self) -> None:
        """Runs in the writer thread until it takes None from the queue."""
        transaction = _Transaction(self._writer, self._clock)
        last = False
        while not last:
            batch = []
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=SWEEP_SECONDS)
                while True:
                    if job is None:
                        last = True
                        break
                    batch.append(job)
                    if len(batch) == MAX_BATCH:
                        break
                    job = self._jobs.get_nowait()
            results = self._commit(transaction, batch)
            if results:
                # The loop is there: it outlives `close`, which waits for this thread.
                self._loop.call_soon_threadsafe(_resolve, results)

    def _commit(
        self, transaction: "_Transaction", batch: list[_Job]
    ) -> list[tuple[asyncio.Future[Any], Any, Exception | None]]:
        if self._broken is not None:
            error = BackendUnavailableError(self._broken)
            return [(job.done, None, error) for job in batch]
        try:
            return transaction.commit(batch)
        except sqlite3.Error as caught:
            failure = _translate(caught)
            if _primary_code(caught) == sqlite3.SQLITE_IOERR:
                # After a failed fsync the page cache may hold what the disk does not: nothing that is
                # written from here on could be trusted, until a restart reads the file anew.
                self._broken = "an I/O error ended writing to this database: check the disk, then restart"
            logger.error("a commit of %d writes failed: %s", len(batch), caught)
            return [(job.done, None, failure) for job in batch]
        except Exception as mistake:
            # Ours, and told to the callers: were it to end this thread, all later writes would wait forever.
            logger.error("a commit of %d writes failed: %s", len(batch), type(mistake).__name__)
            return [(job.done, None, mistake) for job in batch]


class _Transaction:
    """What the writer does between BEGIN and COMMIT. Used by the writer thread alone."""

    def __init__(self, connection: sqlite3.Connection, clock: base.Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._now = 0
        # domain -> [id, revision], of the domains that this batch has written to.
        self._domains: dict[str, list[int]] = {}

    def commit(self, batch: list[_Job]) -> list[tuple[asyncio.Future[Any], Any, Exception | None]]:
        """Runs the jobs in one transaction and returns their results; raises if none took effect."""
        self._now = self._clock()
        if not batch and not self._due():
            return []
        self._domains.clear()
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            results = [self._result(job) for job in batch]
            self._sweep()
            self._connection.executemany(
                "UPDATE domains SET revision = ? WHERE id = ?",
                [(revision, identity) for identity, revision in self._domains.values()],
            )
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return results

    def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        ttl: int | None,
        condition: base.Condition,
        request_id: str,
    ) -> base.Written:
        known = self._domain(domain)
        if request_id and (earlier := self._earlier(known[0], request_id)):
            earlier_key, revision, expires, existed = earlier
            if earlier_key != key or existed is not None:
                raise reused(request_id)
            return base.Written(revision, expires)
        if condition is not None:
            self._check(known[0], key, condition)
        known[1] = revision = base.next_revision(known[1], self._now)
        expires = None if ttl is None else self._now + ttl
        self._connection.execute(
            "INSERT INTO entries (domain, key, value, revision, expires) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (domain, key) DO UPDATE SET value = excluded.value, "
            "revision = excluded.revision, expires = excluded.expires",
            (known[0], key, value, revision, expires),
        )
        if request_id:
            self._remember(known[0], request_id, key, revision, expires, None)
        return base.Written(revision, expires)

    def delete_key(self, domain: str, key: str, condition: base.Condition, request_id: str) -> base.Deleted:
        known = self._domain(domain)
        if request_id and (earlier := self._earlier(known[0], request_id)):
            earlier_key, revision, _, existed = earlier
            if earlier_key != key or existed is None:
                raise reused(request_id)
            return base.Deleted(bool(existed), revision)
        if condition is not None:
            self._check(known[0], key, condition)
        existed = self._current(known[0], key) != base.ABSENT
        self._connection.execute("DELETE FROM entries WHERE domain = ? AND key = ?", (known[0], key))
        if existed:
            known[1] = base.next_revision(known[1], self._now)
        if request_id:
            self._remember(known[0], request_id, key, known[1], None, existed)
        return base.Deleted(existed, known[1])

    def _result(self, job: _Job) -> tuple[asyncio.Future[Any], Any, Exception | None]:
        try:
            return job.done, job.run(self), None
        except StorageError as error:
            # It changed nothing, so the rest of the batch goes on.
            return job.done, None, error

    def _domain(self, name: str) -> list[int]:
        known = self._domains.get(name)
        if known is None:
            row = self._connection.execute(
                "SELECT id, revision FROM domains WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                row = self._connection.execute(
                    "INSERT INTO domains (name, revision) VALUES (?, 0) RETURNING id, revision", (name,)
                ).fetchone()
            known = self._domains[name] = list(row)
        return known

    def _current(self, domain: int, key: str) -> int:
        """Returns the revision of the present entry, or ABSENT."""
        row = self._connection.execute(
            "SELECT revision FROM entries WHERE domain = ? AND key = ? AND (expires IS NULL OR expires > ?)",
            (domain, key, self._now),
        ).fetchone()
        return base.ABSENT if row is None else int(row[0])

    def _check(self, domain: int, key: str, condition: int) -> None:
        current = self._current(domain, key)
        if current != condition:
            raise ConditionFailedError(current)

    def _earlier(self, domain: int, request_id: str) -> tuple[str, int, int | None, int | None] | None:
        row: tuple[str, int, int | None, int | None] | None = self._connection.execute(
            "SELECT key, revision, expires, existed FROM requests "
            "WHERE domain = ? AND request_id = ? AND at > ?",
            (domain, request_id, self._now - WINDOW),
        ).fetchone()
        return row

    def _remember(
        self, domain: int, request_id: str, key: str, revision: int, expires: int | None, existed: bool | None
    ) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO requests (domain, request_id, key, revision, expires, existed, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (domain, request_id, key, revision, expires, existed, self._now),
        )

    def _due(self) -> bool:
        """Returns whether there is something to sweep."""
        (due,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM entries WHERE expires <= ?) OR "
            "coalesce((SELECT at FROM requests ORDER BY id LIMIT 1) <= ?, 0)",
            (self._now, self._now - WINDOW),
        ).fetchone()
        return bool(due)

    def _sweep(self) -> None:
        """Removes some of what has expired. Reads do not depend on it: they look at the time."""
        self._connection.execute(
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? LIMIT ?)",
            (self._now, SWEEP_ROWS),
        )
        # Ids ascend with time, so this looks at the oldest rows only.
        self._connection.execute(
            "DELETE FROM requests WHERE id < (SELECT min(id) FROM requests) + ? AND at <= ?",
            (SWEEP_ROWS + MAX_BATCH, self._now - WINDOW),
        )


def _resolve(results: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for done, result, error in results:
        if done.done():
            continue  # its caller was cancelled
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


def _open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    # A lock that another program, such as the sqlite3 shell, holds for a moment.
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the file durable and gives a new one its schema; leaves a file of others as it is."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    ours = version == SCHEMA_VERSION and names >= {"domains", "entries", "requests"}
    if not ours and (version or names):
        raise ValueError(f"{path} is a database of something else, or of another version of neardict")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ValueError(f"{path} cannot be in WAL mode: put it on a local disk")
    # In WAL mode FULL is what makes a commit wait for the disk.
    connection.execute("PRAGMA synchronous = FULL")
    if not ours:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _after_prefix(prefix: str) -> str | None:
    """Returns the least text greater than all that begin with the prefix; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    after = ord(stem[-1]) + 1
    # Code points and UTF-8 sort alike; surrogates are in no text.
    return stem[:-1] + chr(0xE000 if after == 0xD800 else after)


@contextlib.contextmanager
def _translated() -> Any:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error) from error


def _translate(error: sqlite3.Error) -> StorageError:
    code = _primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError("the disk, or the database, is full: free some room")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptEntryError("the database is damaged: restore it, or recover it with the sqlite3 shell")
    return BackendUnavailableError("the database cannot be used now; the server's log tells why")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
