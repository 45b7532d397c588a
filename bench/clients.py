"""Our clients as calls by number, as a user makes them; and how a client of an event loop is opened."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from neardict import aio

from .operations import DOMAIN, VALUE, key


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
