"""Caches of a domain of a json backend, of both kinds and both clients, and edits that must reach them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Self

import neardict
from neardict import aio
from neardict.errors import DataLossError, NotHeldError
from waiting import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What a cache shows of a key: these, or its value.
GONE = "gone"
BROKEN = "broken"
NOT_NOW = "not now"

# No promise, which is a second, but when a test gives up on a machine that is busy with others.


class Caches:
    """A mirror and a partial cache of the synchronous client, and of the one of asyncio."""

    def __init__(self, address: str, domain: str) -> None:
        self._address = address
        self._domain = domain
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        store = self._opened.enter_context(neardict.connect(self._address))
        other = await self._opened.enter_async_context(aio.connect(self._address))
        self.mirror = store.dict(self._domain)
        self.partial = store.dict(self._domain, load=False)
        self.aio_mirror = await other.dict(self._domain)
        self.aio_partial = await other.dict(self._domain, load=False)
        self.all: list[Any] = [self.mirror, self.partial, self.aio_mirror, self.aio_partial]
        await until(self.are_fresh)
        # From here on what is shown comes from memory, unless a change said that it is outdated.
        assert self.mirror == self.aio_mirror
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._opened.aclose()

    def are_fresh(self) -> bool:
        return all(cache.fresh for cache in self.all)

    async def show(self, key: str) -> list[Any]:
        """Returns what each of them shows. What they hold, they do not ask for."""
        return [
            _shown(lambda: self.mirror.get(key, GONE)),
            _shown(lambda: self.partial.get(key, GONE)),
            _shown(lambda: self.aio_mirror.get(key, GONE)),
            await _fetched(self.aio_partial, key),
        ]

    async def all_show(self, key: str, value: Any) -> float:
        """Returns how long it took until all of them showed this."""
        began = time.monotonic()
        while (shown := await self.show(key)) != [value] * len(self.all):
            assert time.monotonic() < began + DEADLINE_SECONDS, f"{key} is {shown} rather than {value!r}"
            await asyncio.sleep(0.001)
        return time.monotonic() - began

    async def hold(self, key: str) -> None:
        """Makes all of them hold the key, or know that it is absent."""
        await self.show(key)

    def resets(self) -> int:
        return sum(cache.stats.resets for cache in self.all)


def _shown(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except NotHeldError:
        return NOT_NOW
    except DataLossError:
        return BROKEN


async def _fetched(cache: aio.CachedDict, key: str) -> Any:
    try:
        return await cache.fetch(key, GONE)
    except DataLossError:
        return BROKEN


async def until(condition: Callable[[], bool]) -> float:
    """Returns how long it took until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + DEADLINE_SECONDS
        await asyncio.sleep(0.001)
    return time.monotonic() - began


# How programs save a file.


def save_in_place(file: Path, text: str) -> None:
    """Truncates and writes, as `echo > file` does."""
    file.write_text(text)


def save_by_rename(file: Path, text: str) -> None:
    """Writes a new file that takes the name, as most editors do."""
    new = file.with_name(".swp")
    new.write_text(text)
    new.rename(file)


def save_with_backup(file: Path, text: str) -> None:
    """Moves the old file aside, and writes a new one under the name, as vim may."""
    with contextlib.suppress(FileNotFoundError):
        file.rename(file.with_name(f"{file.name}~"))
    file.write_text(text)


def save_by_link(file: Path, text: str) -> None:
    """Gives a file that was written elsewhere a second name."""
    elsewhere = file.with_name("elsewhere")
    elsewhere.write_text(text)
    file.unlink(missing_ok=True)
    os.link(elsewhere, file)
    elsewhere.unlink()


def save_slowly(file: Path, text: str) -> None:
    """Keeps the file open, and writes it in pieces."""
    with file.open("w") as opened:
        for character in text:
            opened.write(character)
            opened.flush()


SAVES = [save_in_place, save_by_rename, save_with_backup, save_by_link, save_slowly]


@contextlib.contextmanager
def held_open(file: Path, text: str) -> Iterator[None]:
    """Writes the file, and does not close it in the meantime."""
    with file.open("r+") as opened:
        opened.truncate()
        opened.write(text)
        opened.flush()
        yield
