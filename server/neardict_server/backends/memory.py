"""Keeps entries in this process, and loses them with it: for tests and for what is ephemeral."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, Self

from ..changes.recent import RecentChanges
from ..errors import ConditionFailedError
from . import base
from .paging import pages

# The heap of expiries is looked through no sooner than it has so many.
MIN_EXPIRIES = 1024


class _Expiry(NamedTuple):
    expires: int
    domain: str
    key: str
    revision: int


class _Domain:
    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.entries: dict[str, base.Entry] = {}


class MemoryBackend:
    """A dict of dicts. Each operation runs without a break on the event loop, which makes it atomic."""

    class Settings(base.Settings):
        pass

    capabilities: frozenset[base.Capability] = frozenset(
        {base.Capability.TTL, base.Capability.LEASES, base.Capability.WATCH}
    )

    def __init__(self, clock: base.Clock = base.wall_clock, publish: base.Publish = base.unheard) -> None:
        self._clock = clock
        self._publish = publish
        self._recent = RecentChanges()
        # A domain that nothing was written to yet answers with this, and so never with a
        # revision below those that an earlier process gave out.
        self._started = clock()
        self._domains: dict[str, _Domain] = {}
        # A heap. Holds what was overwritten meanwhile too, until it is due or they are too many.
        self._expiries: list[_Expiry] = []
        self._too_many = MIN_EXPIRIES
        self._alarm: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, settings: Settings, surroundings: base.Surroundings) -> Self:
        return cls(surroundings.clock, surroundings.publish)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        stored = self._domains.get(domain)
        if stored is None:
            return base.Lookup(None, self._started)
        return base.Lookup(self._present(stored, key, self._clock()), stored.revision)

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
        now = self._clock()
        self._forget_expired(now)
        stored = self._domains.get(domain) or _Domain(self._started)
        present = self._present(stored, key, now)
        _check(condition, present)
        if ttl is base.KEEP:
            if present is None:
                raise ConditionFailedError(base.ABSENT)
            expires = present.expires
        else:
            expires = None if ttl is None else now + ttl
        self._domains[domain] = stored
        revision = self._change(domain, stored, key, value, expires)
        stored.entries[key] = base.Entry(key, value, revision, expires)
        if expires is not None:
            heapq.heappush(self._expiries, _Expiry(expires, domain, key, revision))
            if len(self._expiries) > self._too_many:
                self._forget_overwritten()
            self._set_alarm()
        return base.Written(revision, expires)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        now = self._clock()
        self._forget_expired(now)
        stored = self._domains.get(domain)
        present = None if stored is None else self._present(stored, key, now)
        _check(condition, present)
        if stored is None or present is None:
            return base.Deleted(existed=False, revision=stored.revision if stored else self._started)
        del stored.entries[key]
        return base.Deleted(existed=True, revision=self._change(domain, stored, key, None))

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        stored = self._domains.get(domain)
        if stored is None:
            yield base.Page(self._started)
            return
        # The keys are held once more while the listing lasts, as references.
        found = self._listed(stored, list(stored.entries), prefix)
        total = 0 if prefix else len(stored.entries)
        for page in pages(found, stored.revision, entries=entries, total=total):
            yield page

    async def position(self, domain: str, from_revision: int) -> base.Position:
        stored = self._domains.get(domain)
        revision = stored.revision if stored else self._started
        return base.Position(revision, self._recent.since(domain, from_revision, revision))

    def certain(self, domain: str) -> bool:
        return True

    async def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _listed(self, stored: _Domain, keys: list[str], prefix: str) -> Iterator[base.Entry]:
        for key in keys:
            if key.startswith(prefix):
                entry = stored.entries.get(key)
                if entry is not None and (entry.expires is None or entry.expires > self._clock()):
                    yield entry

    @staticmethod
    def _present(stored: _Domain, key: str, now: int) -> base.Entry | None:
        entry = stored.entries.get(key)
        if entry is None or (entry.expires is not None and entry.expires <= now):
            return None
        return entry

    def _change(
        self,
        domain: str,
        stored: _Domain,
        key: str,
        value: base.Value | None,
        expires: int | None = None,
    ) -> int:
        """Gives a change its revision, and lets it be known."""
        previous = stored.revision
        stored.revision = base.next_revision(previous, self._clock())
        change = base.Change(key, stored.revision, value, expires)
        self._recent.record(domain, previous, change)
        self._publish(domain, previous, change)
        return stored.revision

    def _forget_expired(self, now: int) -> None:
        """Deletes what has expired. Reads do not depend on it: they look at the time themselves."""
        while self._expiries and self._expiries[0].expires <= now:
            due = heapq.heappop(self._expiries)
            if self._is_current(due):
                stored = self._domains[due.domain]
                del stored.entries[due.key]
                self._change(due.domain, stored, due.key, None)

    def _set_alarm(self) -> None:
        """Sees to it that what expires next is deleted then, so that watchers hear of it."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._expiries:
            seconds = (self._expiries[0].expires - self._clock()) / 1_000_000
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(min(max(seconds, 0), 3600), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._forget_expired(self._clock())
        self._set_alarm()

    def _forget_overwritten(self) -> None:
        """Keeps the heap in proportion to the entries, whose owners may renew them without end."""
        self._expiries = [expiry for expiry in self._expiries if self._is_current(expiry)]
        heapq.heapify(self._expiries)
        self._too_many = max(MIN_EXPIRIES, 2 * len(self._expiries))

    def _is_current(self, expiry: _Expiry) -> bool:
        entry = self._domains[expiry.domain].entries.get(expiry.key)
        return entry is not None and entry.revision == expiry.revision


def _check(condition: base.Condition, present: base.Entry | None) -> None:
    current = present.revision if present else base.ABSENT
    if condition is not None and condition != current:
        raise ConditionFailedError(current)
