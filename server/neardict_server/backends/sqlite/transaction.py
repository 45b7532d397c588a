"""What the writer does between BEGIN and COMMIT."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ...errors import ConditionFailedError
from .. import base
from ..request_ids import WINDOW, again, parts_of
from .statements import Choice, Insertion

# How many rows a look for what is over removes at most, of each kind.
SWEEP_ROWS = 2000
# How many changes are remembered, for watchers that resume.
KEPT_CHANGES = 100_000
# How many are forgotten at once, so that it need not be looked at in each transaction.
FORGOTTEN_CHANGES = 10_000

_SET_ENTRIES = Insertion(
    "entries (domain, key, value, revision, expires)",
    5,
    "ON CONFLICT (domain, key) DO UPDATE SET value = excluded.value, "
    "revision = excluded.revision, expires = excluded.expires",
)
_SWEEP_ENTRIES = Choice("DELETE FROM entries WHERE id IN")
_DELETE_ENTRIES = Choice("DELETE FROM entries WHERE domain = ? AND key IN")
_LOG_CHANGES = Insertion("changes (revision, domain, key)", 3)
_REMEMBER = Insertion("results (domain, stem, results, at)", 4, replace=True)
_RECALL = Choice("SELECT stem, results, at FROM results WHERE domain = ? AND stem IN")
_FIND = Choice("SELECT key, value, revision, expires FROM entries WHERE domain = ? AND key IN")
_FIND_REVISIONS = Choice("SELECT key, NULL, revision, expires FROM entries WHERE domain = ? AND key IN")

# The arguments of base.Publish.
Publication = tuple[str, int, base.Change]
# An entry as it is stored, expired or not: value, None if it was not read; revision; expires.
_Row = tuple[base.Value | None, int, int | None]
# The result of a request: key, revision, expires, and for a deletion whether the entry existed.
_Result = tuple[str, int, int | None, bool | None]


class _Domain:
    """A domain that this transaction has looked at; `revision` is its latest so far."""

    def __init__(self, name: str, identity: int, revision: int) -> None:
        self.name = name
        self.identity = identity
        self.revision = revision
        self.stored_revision = revision
        # What is known of keys, None for those that are absent. It runs ahead of the file.
        self.rows: dict[str, _Row | None] = {}
        # And of requests: results by the last character of the id, by what is before that.
        self.results: dict[str, dict[str, _Result]] = {}
        # What the file does not have yet.
        self.unwritten: dict[str, None] = {}
        self.unremembered: dict[str, None] = {}

    def result_of(self, request_id: str) -> _Result | None:
        """Returns the result of the request, None if it is not remembered."""
        stem, last = parts_of(request_id)
        return self.results[stem].get(last)

    def remember(self, request_id: str, result: _Result) -> None:
        """Takes notice of the result of a request, if it has an id."""
        if request_id:
            stem, last = parts_of(request_id)
            self.results[stem][last] = result
            self.unremembered[stem] = None


class Transaction:
    """Used by the writer thread alone. `publications` is what the last transaction has changed, in order.

    What operations do is worked out here, on what is read for all of them at once, and written at the end: a
    statement for many rows costs little more than one for a single row.
    """

    def __init__(self, connection: sqlite3.Connection, clock: base.Clock, started: int) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._clock = clock
        self._started = started
        self._now = 0
        self._domains: dict[str, _Domain] = {}
        self._unlogged: list[tuple[int, int, str]] = []
        self._unforgotten = KEPT_CHANGES  # as many as there may be, so that the first look is soon
        self.publications: list[Publication] = []

    @contextlib.contextmanager
    def running(self, *, work: bool) -> Iterator[bool]:
        """Around the writes of one transaction; with no work to do it may not begin, and gives False."""
        self._now = self._clock()
        self._domains = {}
        self._unlogged = []
        self.publications = []
        if not work and not self._due():
            yield False
            return
        self._execute("BEGIN IMMEDIATE")
        try:
            yield True
            for domain in self._domains.values():
                self._write(domain)
            self._sweep()
            self._insert(_LOG_CHANGES, self._unlogged)
            self._unforgotten += len(self._unlogged)
            if self._unforgotten >= KEPT_CHANGES + FORGOTTEN_CHANGES:
                self._unforgotten = self._forget_changes()
            for domain in self._domains.values():
                if domain.revision != domain.stored_revision:
                    self._execute(
                        "UPDATE domains SET revision = ? WHERE id = ?", (domain.revision, domain.identity)
                    )
            self._execute("COMMIT")
        except BaseException:
            self.publications = []
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def execute(self, domain_name: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        """Carries out the operations in their order, as base.Batches says."""
        domain = self._domain(domain_name)
        self._read(domain, operations)
        outcomes: list[base.Outcome] = []
        for operation in operations:
            if isinstance(operation, base.Get):
                row = domain.rows[operation.key]
                entry = None
                if row is not None and row[0] is not None and (row[2] is None or row[2] > self._now):
                    entry = base.Entry(operation.key, row[0], row[1], row[2])
                outcomes.append(base.Lookup(entry, domain.revision))
                continue
            if operation.request_id and (result := domain.result_of(operation.request_id)):
                outcomes.append(again(operation, *result))
                continue
            if operation.condition is not None:
                current = self._current(domain.rows[operation.key])
                if current != operation.condition:
                    outcomes.append(ConditionFailedError(current))
                    continue
            if _keeps(operation) and self._current(domain.rows[operation.key]) == base.ABSENT:
                outcomes.append(ConditionFailedError(base.ABSENT))
                continue
            outcome = (
                self._set(domain, operation)
                if isinstance(operation, base.Set)
                else self._delete(domain, operation)
            )
            outcomes.append(outcome)
        return outcomes

    def _set(self, domain: _Domain, operation: base.Set) -> base.Written:
        key, value, ttl, _, request_id = operation
        if ttl is base.KEEP:
            row = domain.rows[key]
            expires = None if row is None else row[2]
        else:
            expires = None if ttl is None else self._now + ttl
        revision = self._change(domain, key, value, expires)
        domain.rows[key] = (value, revision, expires)
        domain.remember(request_id, (key, revision, expires, None))
        return base.Written(revision, expires)

    def _delete(self, domain: _Domain, operation: base.Delete) -> base.Deleted:
        key, _, request_id = operation
        row = domain.rows[key]
        existed = self._current(row) != base.ABSENT
        # Also if it has expired, and so did not exist: watchers may show it by clocks of their own.
        if row is not None:
            self._change(domain, key, None, None)
            domain.rows[key] = None
        domain.remember(request_id, (key, domain.revision, None, existed))
        return base.Deleted(existed, domain.revision)

    def _domain(self, name: str) -> _Domain:
        domain = self._domains.get(name)
        if domain is None:
            row = self._execute("SELECT id, revision FROM domains WHERE name = ?", (name,)).fetchone()
            if row is None:
                row = self._execute(
                    "INSERT INTO domains (name, revision) VALUES (?, ?) RETURNING id, revision",
                    (name, self._started),
                ).fetchone()
            domain = self._domains[name] = _Domain(name, *row)
        return domain

    def _read(self, domain: _Domain, operations: Sequence[base.Operation]) -> None:
        """Looks up what the operations depend on, as far as this transaction does not know it yet."""
        values: dict[str, None] = {}
        revisions: dict[str, None] = {}
        stems: dict[str, None] = {}
        rows, results = domain.rows, domain.results
        for operation in operations:
            key = operation.key
            if isinstance(operation, base.Get):
                if key not in rows or ((row := rows[key]) is not None and row[0] is None):
                    values[key] = None
                continue
            if operation.request_id and (stem := parts_of(operation.request_id)[0]) not in results:
                stems[stem] = None
            if key not in rows and (
                operation.condition is not None or isinstance(operation, base.Delete) or _keeps(operation)
            ):
                revisions[key] = None
        for choice, keys in ((_FIND_REVISIONS, revisions), (_FIND, values)):
            if keys:
                rows.update(keys)
                for key, value, revision, expires in self._choose(choice, domain, keys):
                    rows[key] = (value, revision, expires)
        if stems:
            results.update((stem, {}) for stem in stems)
            for stem, found, at in self._choose(_RECALL, domain, stems):
                if at > self._now - WINDOW:
                    results[stem] = orjson.loads(found)

    def _write(self, domain: _Domain) -> None:
        """Brings the file up to what has been worked out."""
        gone = [key for key in domain.unwritten if domain.rows[key] is None]
        kept = [
            (domain.identity, key, *row) for key in domain.unwritten if (row := domain.rows[key]) is not None
        ]
        for statement, parameters in _DELETE_ENTRIES.statements((domain.identity,), gone):
            self._execute(statement, parameters)
        self._insert(_SET_ENTRIES, kept)
        self._insert(
            _REMEMBER,
            [
                (domain.identity, stem, orjson.dumps(domain.results[stem]).decode(), self._now)
                for stem in domain.unremembered
            ],
        )

    def _choose(self, choice: Choice, domain: _Domain, values: dict[str, None]) -> Iterator[Any]:
        for statement, parameters in choice.statements((domain.identity,), values):
            yield from self._execute(statement, parameters).fetchall()

    def _insert(self, insertion: Insertion, rows: Sequence[Sequence[Any]]) -> None:
        for statement, parameters in insertion.statements(rows):
            self._execute(statement, parameters)

    def _change(self, domain: _Domain, key: str, value: base.Value | None, expires: int | None) -> int:
        """Gives a change its revision, and notes it for those who watch."""
        previous = domain.revision
        domain.revision = revision = base.next_revision(previous, self._now)
        domain.unwritten[key] = None
        self._unlogged.append((revision, domain.identity, key))
        self.publications.append((domain.name, previous, base.Change(key, revision, value, expires)))
        return revision

    def _current(self, row: _Row | None) -> int:
        """Returns the revision of a present entry, or ABSENT."""
        return base.ABSENT if row is None or (row[2] is not None and row[2] <= self._now) else row[1]

    def seconds_to_expiry(self) -> float:
        """Returns in how many seconds the next entry expires, infinity if none does."""
        (expires,) = self._execute("SELECT min(expires) FROM entries WHERE expires IS NOT NULL").fetchone()
        return float("inf") if expires is None else (expires - self._clock()) / 1_000_000

    def _due(self) -> bool:
        """Returns whether there is something to sweep."""
        (due,) = self._execute(
            "SELECT EXISTS (SELECT 1 FROM entries WHERE expires <= ?) OR "
            "coalesce((SELECT at FROM results ORDER BY id LIMIT 1) <= ?, 0)",
            (self._now, self._now - WINDOW),
        ).fetchone()
        return bool(due)

    def _sweep(self) -> None:
        """Removes some of what is over. Reads do not depend on it: they look at the time themselves."""
        if not self._due():
            return
        expired = self._execute(
            "SELECT e.id, d.name, e.key FROM entries e JOIN domains d ON d.id = e.domain "
            "WHERE e.expires <= ? LIMIT ?",
            (self._now, SWEEP_ROWS),
        ).fetchall()
        for _, name, key in expired:
            self._change(self._domain(name), key, None, None)
        for statement, parameters in _SWEEP_ENTRIES.statements((), [row[0] for row in expired]):
            self._execute(statement, parameters)
        # Ids ascend with time, so this looks at the oldest rows only.
        self._execute(
            "DELETE FROM results WHERE id < (SELECT min(id) FROM results) + ? AND at <= ?",
            (SWEEP_ROWS, self._now - WINDOW),
        )

    def _forget_changes(self) -> int:
        """Removes the oldest changes, by revision, and returns how many are left."""
        (count,) = self._execute("SELECT count(*) FROM changes").fetchone()
        if count > KEPT_CHANGES:
            self._execute(
                "DELETE FROM changes WHERE revision <= "
                "(SELECT revision FROM changes ORDER BY revision LIMIT 1 OFFSET ?)",
                (count - KEPT_CHANGES - 1,),
            )
        return min(int(count), KEPT_CHANGES)


def _keeps(operation: base.Set | base.Delete) -> bool:
    """Returns whether the write depends on when the present entry expires."""
    return isinstance(operation, base.Set) and operation.ttl is base.KEEP
