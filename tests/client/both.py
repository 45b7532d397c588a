"""One test for both clients: they differ by `await` alone."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import neardict
from neardict import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS = {"threads": neardict, "asyncio": aio}


async def wait(answer: Any) -> Any:
    """Returns the answer, awaited if it has to be."""
    return await answer if inspect.isawaitable(answer) else answer


@dataclass(frozen=True)
class Way:
    """A client, and a kind of dict of it."""

    client: str
    load: bool
    consistency: str = "bounded"

    @contextlib.asynccontextmanager
    async def store(self, target: str, **options: Any) -> AsyncIterator[Any]:
        """Gives a store that is closed in the end."""
        store = CLIENTS[self.client].connect(target, **options)
        try:
            yield store
        finally:
            await wait(store.close())

    @contextlib.asynccontextmanager
    async def dict(
        self, target: str, domain: str, value_type: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Gives a dict of a store of its own."""
        async with self.store(target) as store:
            yield await self.of(store, domain, value_type, **options)

    async def of(self, store: Any, domain: str, value_type: Any = None, **options: Any) -> Any:
        return await wait(
            store.dict(domain, value_type, load=self.load, consistency=self.consistency, **options)
        )

    @contextlib.asynccontextmanager
    async def block(self, edit: Any) -> AsyncIterator[Any]:
        """Runs the block form of `edit`."""
        if self.client == "asyncio":
            async with edit as value:
                yield value
        else:
            with edit as value:
                yield value


BOUNDED = [Way(client, load) for client in CLIENTS for load in (True, False)]
WAYS = [*BOUNDED, *(Way(client, True, "linearizable") for client in CLIENTS)]


def ids(way: Way) -> str:
    return f"{way.client}-{'mirror' if way.load else 'cache'}-{way.consistency}"


every_way = pytest.mark.parametrize("way", WAYS, ids=ids)
bounded_ways = pytest.mark.parametrize("way", BOUNDED, ids=ids)
