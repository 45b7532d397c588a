"""The backend: reads and listings here, writes by the writer."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self, cast

from ...errors import CorruptEntryError
from ...exclusive import ExclusiveLock
from .. import base
from ..paging import pages
from .database import begin, open_file, prepare, translated
from .statements import MOST_VALUES, Choice
from .writer import Writer

_LOOK_AT_ONE = (
    "SELECT d.revision, e.value, e.revision, e.expires FROM domains d "
    "LEFT JOIN entries e ON e.domain = d.id AND e.key = ? WHERE d.name = ?"
)
_LOOK = Choice(
    "SELECT d.revision, e.key, e.value, e.revision, e.expires FROM domains d "
    "LEFT JOIN entries e ON e.domain = d.id AND e.key IN",
    "WHERE d.name = ?",
)
# So many keys of a batch are looked up first; their values show how many may follow at once, so that it
# reads about so much without a break, in which others run.
_FIRST_READ = 8
_UNBROKEN_BYTES = 1024 * 1024
# So many entries are counted within a millisecond, for which the event loop may be held up.
# With more changes than this to tell, they are read in a thread.
_FEW_MISSED = 500
_FEW = 20_000


class SqliteBackend:
    """One file, one writer. Owned by one process, by a lock beside the file."""

    class Settings(base.Settings):
        # The database file; by default neardict.sqlite3 in the server's data folder.
        path: Path | None = None

    capabilities: frozenset[base.Capability] = frozenset(
        {
            base.Capability.DURABLE,
            base.Capability.TTL,
            base.Capability.DURABLE_REQUEST_ID,
            base.Capability.LEASES,
            base.Capability.WATCH,
        }
    )

    @classmethod
    async def open(cls, settings: Settings, surroundings: base.Surroundings) -> Self:
        path = settings.path or surroundings.data_dir / "neardict.sqlite3"
        return cls(path, surroundings.clock, surroundings.publish, surroundings.name)

    def __init__(
        self,
        path: Path,
        clock: base.Clock = base.wall_clock,
        publish: base.Publish = base.unheard,
        name: str = "",
    ) -> None:
        """Raises OSError if the file cannot be used or is in use, ValueError if it is no such database."""
        self._clock = clock
        self._path = path
        self._translated = functools.partial(translated, name)
        with contextlib.ExitStack() as opened:
            opened.enter_context(ExclusiveLock(path.with_name(f"{path.name}.lock")))
            try:
                connection = opened.enter_context(contextlib.closing(open_file(path)))
                prepare(connection, path)
                self._reader = opened.enter_context(contextlib.closing(open_file(path)))
                self._reader.execute("PRAGMA query_only = ON")
                self._started = begin(connection, clock)
            except sqlite3.Error as error:
                raise ValueError(f"{path} cannot be opened as a database: {error}") from error
            self._opened = opened.pop_all()
        self._writer = Writer(path, connection, clock, publish, started=self._started, name=name)
        self._closed = False

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        with self._translated():
            row = self._reader.execute(_LOOK_AT_ONE, (key, domain)).fetchone()
        if row is None:
            return base.Lookup(None, self._started)
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
        ttl: base.Ttl = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        return cast(
            "base.Written", await self._write(domain, base.Set(key, value, ttl, condition, request_id))
        )

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        return cast("base.Deleted", await self._write(domain, base.Delete(key, condition, request_id)))

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> Sequence[base.Outcome]:
        if any(not isinstance(operation, base.Get) for operation in operations):
            return await self._writer.submit(
                lambda transaction: transaction.execute(domain, operations), size=len(operations)
            )
        keys = [operation.key for operation in operations]
        lookups: list[base.Lookup] = []
        size = _FIRST_READ
        unbroken = 0
        while len(lookups) < len(keys):
            if unbroken > _UNBROKEN_BYTES:
                await asyncio.sleep(0)
                unbroken = 0
            found = self._look(domain, keys[len(lookups) : len(lookups) + size])
            read = sum(len(lookup.entry.value) for lookup in found if lookup.entry is not None)
            unbroken += read
            size = MOST_VALUES if read < _UNBROKEN_BYTES * len(found) // MOST_VALUES else 1
            lookups += found
        return lookups

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        with self._translated():
            row = self._reader.execute(
                "SELECT id, revision FROM domains WHERE name = ?", (domain,)
            ).fetchone()
        domain_id, revision = row or (None, self._started)
        columns = "key, value, revision, expires" if entries else "key, '', revision, expires"
        bound, end = "AND key < ?", _after_prefix(prefix)
        if end is None:
            bound, end = "AND ? IS NULL", None
        # In the order of the index, each page after the last key of the one before: a key that stays is
        # met exactly once, whatever is written meanwhile, and no read lasts longer than its page.
        total = await self._total(domain_id) if entries and not prefix else 0
        after, operator = prefix, ">="
        while True:
            try:
                with self._translated():
                    cursor = self._reader.execute(
                        f"SELECT {columns} FROM entries WHERE domain = ? AND key {operator} ? {bound} "  # noqa: S608  # constants
                        "AND (expires IS NULL OR expires > ?) ORDER BY key",
                        (domain_id, after, end, self._clock()),
                    )
                    with contextlib.closing(cursor):
                        found = map(base.Entry._make, cursor)
                        page = next(pages(found, revision, entries=entries, total=total))
            except CorruptEntryError:
                keys = (f"domain = ? AND key {operator} ? {bound}", (domain_id, after, end))
                page, last = self._salvaged(*keys, columns)
                page = page._replace(domain_revision=revision, total=total)
                if not entries:
                    listed = {entry.key for entry in page.entries}.union(page.unreadable)
                    page = page._replace(keys=sorted(listed), entries=(), unreadable=())
            else:
                last = page.entries[-1].key if page.entries else page.keys[-1] if page.keys else None
            if last is None and operator == ">":
                return
            yield page
            if last is None:
                return
            after, operator, total = last, ">", 0

    def _salvaged(
        self, which: str, parameters: tuple[object, ...], columns: str
    ) -> tuple[base.Page, str | None]:
        """Returns some entries one by one, with the keys of those that cannot be read; and the last key.

        The keys are in an index, apart from the entries. Raises CorruptEntryError where that cannot be read
        either: which keys there are, nobody knows then.
        """
        found: list[base.Entry] = []
        unreadable: list[str] = []
        size, last = 0, None
        now = self._clock()
        with self._translated():
            keys = self._reader.execute(
                f"SELECT domain, key FROM entries WHERE {which} ORDER BY key LIMIT {MOST_VALUES}",  # noqa: S608  # constants
                parameters,
            ).fetchall()
        for domain_id, last in keys:  # the last is returned
            try:
                with self._translated():
                    rows = self._reader.execute(
                        f"SELECT {columns} FROM entries WHERE domain = ? AND key = ?",  # noqa: S608  # constants
                        (domain_id, last),
                    ).fetchall()
            except CorruptEntryError:
                unreadable.append(last)
                continue
            for entry in map(base.Entry._make, rows):
                if entry.expires is None or entry.expires > now:
                    found.append(entry)
                    size += len(entry.value)
            if size >= base.PAGE_BYTES:
                break
        return base.Page(0, entries=found, unreadable=unreadable), last

    def _look(self, domain: str, keys: Sequence[str]) -> list[base.Lookup]:
        """Returns what is stored under the keys at one moment, at most MOST_VALUES of them."""
        ((statement, parameters),) = _LOOK.statements((), keys, after=(domain,))
        with self._translated():
            rows = self._reader.execute(statement, parameters).fetchall()
        if not rows:
            return [base.Lookup(None, self._started)] * len(keys)
        domain_revision = rows[0][0]
        now = self._clock()
        found = {
            key: base.Lookup(base.Entry(key, value, revision, expires), domain_revision)
            for _, key, value, revision, expires in rows
            if revision is not None and (expires is None or expires > now)
        }
        absent = base.Lookup(None, domain_revision)
        return [found.get(key, absent) for key in keys]

    async def _write(self, domain: str, write: base.Set | base.Delete) -> base.Outcome:
        (outcome,) = await self._writer.submit(lambda transaction: transaction.execute(domain, (write,)))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def position(self, domain: str, from_revision: int) -> base.Position:
        with self._translated():
            found = self._missed(self._reader, domain, from_revision, _FEW_MISSED)
        return await asyncio.to_thread(self._many_missed, domain, from_revision) if found is None else found

    def _many_missed(self, domain: str, from_revision: int) -> base.Position:
        with self._translated(), self._own_reader() as connection:
            connection.execute("BEGIN")
            found = self._missed(connection, domain, from_revision, base.MOST_MISSED)
            if found is not None:
                return found
            (revision,) = connection.execute(
                "SELECT revision FROM domains WHERE name = ?", (domain,)
            ).fetchone()
            return base.Position(revision, None)

    def _missed(
        self, reader: sqlite3.Connection, domain: str, from_revision: int, most: int
    ) -> base.Position | None:
        """Returns where a subscription begins; None if more changes than so many have been missed."""
        row = reader.execute("SELECT id, revision FROM domains WHERE name = ?", (domain,)).fetchone()
        if row is None:
            # An entry may have come since, but then it will be published.
            return base.Position(self._started, [] if from_revision == self._started else None)
        identity, revision = row
        if from_revision >= revision:
            # Greater only if the file was restored from an older copy: then nobody knows what is missing.
            return base.Position(revision, [] if from_revision == revision else None)
        (kept,) = reader.execute("SELECT min(revision) FROM changes").fetchone()
        if kept is None or from_revision < kept:
            return base.Position(revision, None)
        (count,) = reader.execute(
            "SELECT count(*) FROM (SELECT 1 FROM changes WHERE revision > ? AND domain = ? LIMIT ?)",
            (from_revision, identity, most + 1),
        ).fetchone()
        if count > most:
            return None
        rows = reader.execute(
            "SELECT c.key, max(c.revision), CASE WHEN length(e.value) > ? THEN '' ELSE e.value END, "
            "e.expires, coalesce(length(e.value) <= ?, 1) FROM changes c "
            "LEFT JOIN entries e ON e.domain = c.domain AND e.key = c.key "
            "WHERE c.revision > ? AND c.domain = ? GROUP BY c.key ORDER BY 2",
            (base.TOLD_BYTES, base.TOLD_BYTES, from_revision, identity),
        )
        return base.Position(revision, [base.Change(*row) for row in rows])

    def certain(self, domain: str) -> bool:
        return True

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._writer.close()
            self._opened.close()

    async def _total(self, domain_id: int | None) -> int:
        """Returns how many entries the domain has, expired ones that are not deleted yet included."""
        with self._translated():
            (count,) = self._reader.execute(
                "SELECT count(*) FROM (SELECT 1 FROM entries WHERE domain = ? LIMIT ?)", (domain_id, _FEW)
            ).fetchone()
        return count if count < _FEW else await asyncio.to_thread(self._count, domain_id)

    def _count(self, domain_id: int | None) -> int:
        with self._translated(), self._own_reader() as connection:
            query = "SELECT count(*) FROM entries WHERE domain = ?"
            count: int = connection.execute(query, (domain_id,)).fetchone()[0]
            return count

    def _own_reader(self) -> contextlib.closing[sqlite3.Connection]:
        """Returns a context with a connection for a thread."""
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None))


def _after_prefix(prefix: str) -> str | None:
    """Returns the least text greater than all that begin with the prefix; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    after = ord(stem[-1]) + 1
    # Code points and UTF-8 sort alike; surrogates are in no text.
    return stem[:-1] + chr(0xE000 if after == 0xD800 else after)
