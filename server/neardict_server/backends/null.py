"""Keeps nothing: for switching storage off without touching the services that use it."""

from collections.abc import AsyncIterator
from typing import Self

from ..errors import ConditionFailedError
from . import base


class NullBackend:
    """Accepts every write and forgets it; every key is absent."""

    class Settings(base.Settings):
        pass

    capabilities: frozenset[base.Capability] = frozenset(
        {base.Capability.TTL, base.Capability.LEASES, base.Capability.WATCH}
    )

    def __init__(self, clock: base.Clock = base.wall_clock) -> None:
        self._clock = clock
        self._revision = 0

    @classmethod
    async def open(cls, settings: Settings, surroundings: base.Surroundings) -> Self:
        return cls(surroundings.clock)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        return base.Lookup(None, self._revision)

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
        if condition:
            raise ConditionFailedError(base.ABSENT)
        now = self._clock()
        self._revision = base.next_revision(self._revision, now)
        # With KEEP there would have to be an entry; but here every write is accepted.
        return base.Written(self._revision, None if ttl is None or ttl is base.KEEP else now + ttl)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        if condition:
            raise ConditionFailedError(base.ABSENT)
        return base.Deleted(existed=False, revision=self._revision)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        yield base.Page(self._revision)

    async def position(self, domain: str, from_revision: int) -> base.Position:
        """Nothing is kept, so nothing ever changes; but what a client holds another backend may have kept."""
        return base.Position(self._revision, None)

    def certain(self, domain: str) -> bool:
        return True

    async def close(self) -> None:
        pass
