"""The backend: operations by scripts, and listings by the page."""

from collections.abc import AsyncIterator, Sequence
from typing import Self, cast

from ...errors import StorageError
from .. import base
from .batches import executed, executing, found, reading
from .client import RedisClient
from .errors import RefusedError
from .feed import RedisFeed
from .layout import (
    Places,
    channel_of,
    entries_of,
    places_of,
    revision_of,
    text_of,
    time_of,
)
from .operations import EXECUTE, READ
from .revisions import Revisions
from .scripts import PAGE
from .settings import RedisSettings

# At most so many keys are looked at in one script, which keeps Redis from others for about a millisecond.
PAGE_KEYS = 1024
# So does a script that carries out so many operations.
MOST_OPERATIONS = 128


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
        self._client = RedisClient(settings, surroundings.name)
        self._name = surroundings.name
        self._prefix = settings.key_prefix
        self._revisions = Revisions(surroundings.clock)
        self._feed = RedisFeed(self._client, self._prefix, self._revisions, surroundings)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        return cast("base.Lookup", await self._one(domain, base.Get(key)))

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
        return cast("base.Written", await self._one(domain, base.Set(key, value, ttl, condition, request_id)))

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        return cast("base.Deleted", await self._one(domain, base.Delete(key, condition, request_id)))

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        outcomes: list[base.Outcome] = []
        while len(outcomes) < len(operations):
            some = operations[len(outcomes) : len(outcomes) + MOST_OPERATIONS]
            try:
                outcomes += await self._some(domain, some)
            except StorageError as error:
                outcomes += [error] * (len(operations) - len(outcomes))
        return outcomes

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
            revision, seconds, microseconds, last, listed, count = await self._client.run(
                PAGE, places, start, end, PAGE_KEYS, base.PAGE_BYTES, what
            )
            first, began = began is None, revision_of(revision) if began is None else began
            total = count if first and not prefix else 0
            if entries:
                found = entries_of(listed, time_of(seconds, microseconds))
                page = base.Page(began, entries=found, total=total)
            else:
                page = base.Page(began, keys=[text_of(key) for key in listed], total=total)
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

    async def _some(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        """Carries out the operations, or the first of them, in one script."""
        places = self._places(domain)
        if all(isinstance(operation, base.Get) for operation in operations):
            names = [operation.key for operation in operations]
            keys = [places.entries, places.revision]
            return found(names, await self._client.run(READ, keys, *reading(names)))
        keys, data = executing(places, operations)
        announce = (self._revisions.floor, channel_of(self._prefix), domain)
        outcomes = executed(operations, await self._client.run(EXECUTE, keys, *announce, *data), self._name)
        for outcome in reversed(outcomes):
            if isinstance(outcome, (base.Written, base.Deleted)):
                self._revisions.seen(outcome.revision)
                break
        return outcomes

    async def _one(self, domain: str, operation: base.Operation) -> base.Outcome:
        (outcome,) = await self._some(domain, (operation,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
