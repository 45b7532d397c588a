"""Keeps entries in Redis or Valkey: shared by several services, as durable as Redis is set to be.

Each write is one script, and so one atom: condition, request id, revision, value, index and expiry.
Time is Redis' own, since services that share the data need not agree on theirs. docs/redis.md states
the layout and why it is so.
"""

from collections.abc import AsyncIterator
from typing import Any, Self

from ..errors import ConditionFailedError, StorageError
from . import base
from .redis_client import RedisClient
from .redis_errors import RefusedError
from .redis_feed import RedisFeed
from .redis_layout import (
    Places,
    channel_of,
    corrupt,
    corrupt_revision,
    entries_of,
    entry_of,
    places_of,
    revision_of,
    text_of,
    time_of,
)
from .redis_revisions import Revisions
from .redis_scripts import PAGE, READ, WRITE
from .redis_settings import RedisSettings
from .request_ids import WINDOW, reused

# At most so many keys are looked at in one script, which keeps Redis from others for about a millisecond.
PAGE_KEYS = 1024


class RedisBackend:
    """One Redis, or a Cluster. While it is down, at the start too, operations say so."""

    Settings = RedisSettings

    capabilities: frozenset[base.Capability] = frozenset(
        {
            base.Capability.TTL,
            base.Capability.DURABLE_REQUEST_ID,
            base.Capability.SHARED,
            base.Capability.WATCH,
        }
    )

    @classmethod
    async def open(cls, settings: RedisSettings, surroundings: base.Surroundings) -> Self:
        backend = cls(settings, surroundings)
        try:
            await backend.get_value("neardict", "probe")
        except RefusedError as error:
            await backend.close()
            raise ValueError(f"redis at {backend._client.nodes.address}: {error}") from None
        except StorageError:
            # It is in the log. Redis may come up after us, as when a machine boots.
            pass
        except BaseException:
            await backend.close()
            raise
        backend._feed.start()
        return backend

    def __init__(self, settings: RedisSettings, surroundings: base.Surroundings) -> None:
        self._client = RedisClient(settings)
        self._prefix = settings.key_prefix
        self._revisions = Revisions(surroundings.clock)
        self._feed = RedisFeed(self._client, self._prefix, self._revisions, surroundings)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        revision, stored, seconds, microseconds = await self._client.run(READ, [*self._places(domain)], key)
        entry = None if stored is None else entry_of(key, stored, time_of(seconds, microseconds))
        return base.Lookup(entry, revision_of(revision))

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
        kind = "json" if isinstance(value, str) else "raw"
        data = ("" if ttl is None else ttl, kind, value)
        revision, expires = await self._write("set", domain, key, condition, request_id, *data)
        return base.Written(revision, expires or None)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        revision, existed = await self._write("delete", domain, key, condition, request_id)
        return base.Deleted(bool(existed), revision)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        # In the order of the keys' bytes, each page after the last key of the one before: a key that
        # stays is met exactly once, whatever is written meanwhile. No byte of UTF-8 is 0xff.
        start, end = b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff"
        places = [*self._places(domain)]
        what = "entries" if entries else "keys"
        began: int | None = None
        last: bytes | None = b""
        while last is not None:
            revision, seconds, microseconds, last, found, count = await self._client.run(
                PAGE, places, start, end, PAGE_KEYS, base.PAGE_BYTES, what
            )
            first, began = began is None, revision_of(revision) if began is None else began
            total = count if first and not prefix else 0
            if entries:
                listed = entries_of(found, time_of(seconds, microseconds))
                page = base.Page(began, entries=listed, total=total)
            else:
                page = base.Page(began, keys=[text_of(key) for key in found], total=total)
            if first or page.keys or page.entries:
                yield page
            start = b"(" + (last or b"")

    async def position(self, domain: str, from_revision: int) -> base.Position:
        return await self._feed.position(domain, from_revision)

    def certain(self, domain: str) -> bool:
        return self._feed.certain(domain)

    async def close(self) -> None:
        await self._feed.close()
        await self._client.close()

    def _places(self, domain: str) -> Places:
        return places_of(self._prefix, domain)

    async def _write(
        self,
        operation: str,
        domain: str,
        key: str,
        condition: base.Condition,
        request_id: str,
        *data: Any,
    ) -> tuple[int, int]:
        """Returns the revision, and the expiry time of a set, or whether a deleted entry existed."""
        places = self._places(domain)
        keys = [*places]
        if request_id:
            keys.append(places.entries + b":request:" + request_id.encode())
        announce = (self._revisions.floor, channel_of(self._prefix), domain)
        asked = (operation, key, "" if condition is None else condition, WINDOW // 1000)
        reply: bytes = await self._client.run(WRITE, keys, *announce, *asked, *data)
        outcome, _, rest = reply.partition(b" ")
        if outcome == b"condition":
            raise ConditionFailedError(int(rest))
        if outcome == b"corrupt":
            raise corrupt(key) if rest == b"entry" else corrupt_revision()
        revision, fact, written = rest.split(b" ", 2)
        # Whose result it is shows whether the request id was used for another write.
        if outcome != operation.encode() or written != key.encode():
            raise reused(request_id)
        self._revisions.seen(int(revision))
        return int(revision), int(fact)
