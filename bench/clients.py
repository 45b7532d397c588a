"""Our clients as calls by number, as a user makes them; and how a client of an event loop is opened."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from neardict import aio

from .operations import DOMAIN, KEYS, VALUE, key

# Of filling: how many parts are written at once, of how many entries, and how long one may take.
WRITERS = 4
PART = 1_000
PART_SECONDS = 60.0


class Closes(Protocol):
    async def close(self) -> None: ...


_Client = TypeVar("_Client", bound=Closes)


@contextmanager
def opened(runner: asyncio.Runner, make: Callable[[], _Client]) -> Iterator[_Client]:
    """Gives what `make` returns on the loop, which it belongs to; it is closed there at the end."""

    async def made() -> _Client:
        return make()

    client = runner.run(made())
    try:
        yield client
    finally:
        runner.run(client.close())


class AsyncNear:
    """`neardict.aio.Store`, with single operations on the keys of one domain."""

    def __init__(self, address: str) -> None:
        self._store = aio.connect(address)

    def get(self, number: int) -> Awaitable[Any]:
        return self._store.get_value(DOMAIN, key(number))

    def set(self, number: int) -> Awaitable[Any]:
        return self._store.set_value(DOMAIN, key(number), VALUE)

    async def close(self) -> None:
        await self._store.close()


def fill(address: str) -> None:
    """Writes all keys of the bench."""
    asyncio.run(write(address, DOMAIN, ((key(number), VALUE) for number in range(KEYS))))


async def write(address: str, domain: str, entries: Iterable[tuple[str, Any]]) -> None:
    """Writes any number of entries, some thousands at a time."""
    parts = _parts(iter(entries))

    async def some(store: aio.Store) -> None:
        for part in parts:
            await store.set_many(domain, part, timeout=PART_SECONDS)

    async with aio.connect(address) as store, asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(some(store))


def _parts(entries: Iterator[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    while part := dict(itertools.islice(entries, PART)):
        yield part
