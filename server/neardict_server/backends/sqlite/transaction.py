"""What the writer does between BEGIN and COMMIT."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import ConditionFailedError
from .. import base
from ..request_ids import WINDOW, reused

# How many rows a look for what is over removes at most, of each kind.
SWEEP_ROWS = 2000
# How many changes are remembered, for watchers that resume.
KEPT_CHANGES = 100_000
# How many are forgotten at once, so that it need not be looked at in each transaction.
FORGOTTEN_CHANGES = 10_000


class Publication(NamedTuple):
    """The arguments of base.Publish."""

    domain: str
    previous: int
    change: base.Change


@dataclass
class _Domain:
    """A domain that this transaction has written to; `revision` is its latest so far."""

    name: str
    identity: int
    revision: int


class Transaction:
    """Used by the writer thread alone. `publications` is what the last transaction has changed, in order."""

    def __init__(self, connection: sqlite3.Connection, clock: base.Clock, started: int) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._connection = connection
        self._clock = clock
        self._started = started
        self._now = 0
        self._domains: dict[str, _Domain] = {}
        self._unforgotten = KEPT_CHANGES  # as many as there may be, so that the first look is soon
        self.publications: list[Publication] = []

    @contextlib.contextmanager
    def running(self, *, work: bool) -> Iterator[bool]:
        """Around the writes of one transaction; with no work to do it may not begin, and gives False."""
        self._now = self._clock()
        self._domains.clear()
        self.publications = []
        if not work and not self._due():
            yield False
            return
        self._execute("BEGIN IMMEDIATE")
        try:
            yield True
            self._sweep()
            self._executemany(
                "UPDATE domains SET revision = ? WHERE id = ?",
                [(domain.revision, domain.identity) for domain in self._domains.values()],
            )
            self._execute("COMMIT")
        except BaseException:
            self.publications = []
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def set_value(
        self,
        domain_name: str,
        key: str,
        value: base.Value,
        ttl: int | None,
        condition: base.Condition,
        request_id: str,
    ) -> base.Written:
        domain = self._domain(domain_name)
        if request_id and (earlier := self._earlier(domain, request_id)):
            earlier_key, revision, expires, existed = earlier
            if earlier_key != key or existed is not None:
                raise reused(request_id)
            return base.Written(revision, expires)
        if condition is not None:
            self._check(domain, key, condition)
        expires = None if ttl is None else self._now + ttl
        revision = self._change(domain, key, value, expires)
        self._execute(
            "INSERT INTO entries (domain, key, value, revision, expires) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (domain, key) DO UPDATE SET value = excluded.value, "
            "revision = excluded.revision, expires = excluded.expires",
            (domain.identity, key, value, revision, expires),
        )
        if request_id:
            self._remember(domain, request_id, key, revision, expires, None)
        return base.Written(revision, expires)

    def delete_key(
        self, domain_name: str, key: str, condition: base.Condition, request_id: str
    ) -> base.Deleted:
        domain = self._domain(domain_name)
        if request_id and (earlier := self._earlier(domain, request_id)):
            earlier_key, revision, _, earlier_existed = earlier
            if earlier_key != key or earlier_existed is None:
                raise reused(request_id)
            return base.Deleted(bool(earlier_existed), revision)
        if condition is not None:
            self._check(domain, key, condition)
        existed = self._current(domain, key) != base.ABSENT
        # Also if it has expired, and so did not exist: watchers may show it by clocks of their own.
        gone = self._execute("DELETE FROM entries WHERE domain = ? AND key = ?", (domain.identity, key))
        if gone.rowcount:
            self._change(domain, key, None, None)
        if request_id:
            self._remember(domain, request_id, key, domain.revision, None, existed)
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

    def _change(self, domain: _Domain, key: str, value: base.Value | None, expires: int | None) -> int:
        """Gives a change its revision, and writes it down for those who watch."""
        previous = domain.revision
        domain.revision = revision = base.next_revision(previous, self._now)
        self._execute("INSERT INTO changes VALUES (?, ?, ?)", (revision, domain.identity, key))
        self._unforgotten += 1
        change = base.Change(key, revision, value, expires)
        self.publications.append(Publication(domain.name, previous, change))
        return revision

    def _current(self, domain: _Domain, key: str) -> int:
        """Returns the revision of the present entry, or ABSENT."""
        row = self._execute(
            "SELECT revision FROM entries WHERE domain = ? AND key = ? AND (expires IS NULL OR expires > ?)",
            (domain.identity, key, self._now),
        ).fetchone()
        return base.ABSENT if row is None else int(row[0])

    def _check(self, domain: _Domain, key: str, condition: int) -> None:
        current = self._current(domain, key)
        if current != condition:
            raise ConditionFailedError(current)

    def _earlier(self, domain: _Domain, request_id: str) -> tuple[str, int, int | None, int | None] | None:
        row: tuple[str, int, int | None, int | None] | None = self._execute(
            "SELECT key, revision, expires, existed FROM requests "
            "WHERE domain = ? AND request_id = ? AND at > ?",
            (domain.identity, request_id, self._now - WINDOW),
        ).fetchone()
        return row

    def _remember(
        self,
        domain: _Domain,
        request_id: str,
        key: str,
        revision: int,
        expires: int | None,
        existed: bool | None,
    ) -> None:
        self._execute(
            "INSERT OR REPLACE INTO requests (domain, request_id, key, revision, expires, existed, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (domain.identity, request_id, key, revision, expires, existed, self._now),
        )

    def _due(self) -> bool:
        """Returns whether there is something to sweep."""
        (due,) = self._execute(
            "SELECT EXISTS (SELECT 1 FROM entries WHERE expires <= ?) OR "
            "coalesce((SELECT at FROM requests ORDER BY id LIMIT 1) <= ?, 0)",
            (self._now, self._now - WINDOW),
        ).fetchone()
        return bool(due)

    def _sweep(self) -> None:
        """Removes some of what is over. Reads do not depend on it: they look at the time themselves."""
        expired = self._execute(
            "SELECT e.id, d.name, e.key FROM entries e JOIN domains d ON d.id = e.domain "
            "WHERE e.expires <= ? LIMIT ?",
            (self._now, SWEEP_ROWS),
        ).fetchall()
        for identity, name, key in expired:
            self._change(self._domain(name), key, None, None)
            self._execute("DELETE FROM entries WHERE id = ?", (identity,))
        # Ids ascend with time, so this looks at the oldest rows only.
        self._execute(
            "DELETE FROM requests WHERE id < (SELECT min(id) FROM requests) + ? AND at <= ?",
            (SWEEP_ROWS, self._now - WINDOW),
        )
        if self._unforgotten >= KEPT_CHANGES + FORGOTTEN_CHANGES:
            self._unforgotten = self._forget_changes()

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
