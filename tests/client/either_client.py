"""The two clients, driven in one way, for what has to hold for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import neardict
from neardict import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Threaded:
    """A store of `neardict`."""

    def __init__(self, address: str, **options: Any) -> None:
        self._store = neardict.connect(address, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._store.close()

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        """Returns what the method of the store does, iterators as lists."""
        result = getattr(self._store, name)(*args, **options)
        return list(result) if name in ("all_keys", "all_entries") else result

    def on(self, cache: Any, name: str, *args: Any) -> Any:
        """Returns what the method of a dict does."""
        return getattr(cache, {"fetch": "__getitem__"}.get(name, name))(*args)

    def within(self, function: Callable[..., object], *args: Any) -> None:
        """Calls the function where the dicts are used, before what is answered afterwards arrives."""
        function(*args)

    def run(self, seconds: float) -> None:
        """Lets pass so much time."""
        asyncio.run(asyncio.sleep(seconds))


class Asyncio:
    """A store of `neardict.aio`, in a loop of its own."""

    def __init__(self, address: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._store = self._runner.run(self._connect(address, options))

    async def _connect(self, address: str, options: Any) -> aio.Store:
        return aio.connect(address, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._runner.run(self._store.close())
        self._runner.close()

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        """Returns what the method of the store does, iterators as lists."""

        async def call() -> Any:
            result = getattr(self._store, name)(*args, **options)
            return await _all(result) if name in ("all_keys", "all_entries") else await result

        return self._runner.run(call())

    def on(self, cache: Any, name: str, *args: Any) -> Any:
        """Returns what the method of a dict does."""

        async def call() -> Any:
            awaitable: Awaitable[Any] = getattr(cache, name)(*args)
            return await awaitable

        return self._runner.run(call())

    def within(self, function: Callable[..., object], *args: Any) -> None:
        """Calls the function where the dicts are used, before what is answered afterwards arrives."""
        self._runner.get_loop().call_soon_threadsafe(function, *args)

    def run(self, seconds: float) -> None:
        """Lets the loop run for so much time."""
        self._runner.run(asyncio.sleep(seconds))


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


EITHER = [Threaded, Asyncio]
