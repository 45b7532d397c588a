"""Has the writes of a backend wait for those who hold leases."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from ..backends import base, batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from .leases import Leases


class LeasedBackend:
    """Decorates a backend: its writes wait for those who hold leases."""

    def __init__(self, inner: base.Backend, leases: Leases) -> None:
        self._inner = inner
        self._leases = leases
        self.capabilities = inner.capabilities
        # That everything is gone, with the process before this one, is a write too.
        self._forgets = base.Capability.DURABLE not in inner.capabilities

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        if self._forgets:
            await self._begun()
        return await self._inner.get_value(domain, key)

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
        with self._leases.writing(domain, (key,)) as write:
            await write.cleared()
            return await self._inner.set_value(
                domain, key, value, ttl=ttl, condition=condition, request_id=request_id
            )

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        with self._leases.writing(domain, (key,)) as write:
            await write.cleared()
            return await self._inner.delete_key(domain, key, condition=condition, request_id=request_id)

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> Sequence[base.Outcome]:
        if self._forgets:
            await self._begun()
        keys = [operation.key for operation in operations if not isinstance(operation, base.Get)]
        if not keys:
            return await batches.execute(self._inner, domain, operations)
        # Nobody serves any of the keys until the last write is done, so what is read in between may be new.
        with self._leases.writing(domain, keys) as write:
            await write.cleared()
            return await batches.execute(self._inner, domain, operations)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        if self._forgets:
            await self._begun()
        listing = self._inner.all_keys(domain, prefix=prefix, entries=entries)
        async with aclosing(listing) as pages:  # type: ignore[type-var]  # backends yield from generators
            async for page in pages:
                yield page

    async def close(self) -> None:
        await self._inner.close()

    async def _begun(self) -> None:
        """Returns when no client can serve what an earlier process kept."""
        await self._leases.begun()
        self._forgets = False
