"""Hears what a redis backend publishes, in place of the server's hub."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from redis_backend import DEADLINE_SECONDS, PATIENT


class Ear:
    """A backend whose changes are heard: `heard` has those of each domain, in order, as they came."""

    def __init__(self) -> None:
        self.heard: dict[str, list[base.Change]] = defaultdict(list)
        self.lost: list[str] = []
        self.domains: set[str] = set()
        self._news = asyncio.Event()
        self.backend: RedisBackend

    def surroundings(self) -> base.Surroundings:
        return base.Surroundings(Path(), publish=self._hear, lost=self._lose, watched=lambda: self.domains)

    async def watch(self, domain: str, from_revision: int = 0) -> base.Position:
        self.domains.add(domain)
        return await self.backend.position(domain, from_revision)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds, which is looked at after each news."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_heard(self, domain: str, revision: int) -> None:
        await self.until(lambda: bool(self.heard[domain]) and self.heard[domain][-1].revision >= revision)

    async def until_certain(self, domain: str, *, certain: bool = True) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.backend.certain(domain) != certain:
                await asyncio.sleep(0.01)

    def _hear(self, domain: str, previous: int, change: base.Change) -> None:
        heard = self.heard[domain]
        assert previous < change.revision
        assert not heard or heard[-1].revision < change.revision
        heard.append(change)
        self._news.set()

    def _lose(self, domain: str) -> None:
        # As the hub does: who watches must subscribe again.
        self.lost.append(domain)
        self.domains.discard(domain)
        self._news.set()


@asynccontextmanager
async def hearing(settings: dict[str, Any]) -> AsyncIterator[Ear]:
    """Opens a backend with the settings, and an ear on it."""
    ear = Ear()
    model = RedisBackend.Settings.model_validate(PATIENT | settings)
    ear.backend = await RedisBackend.open(model, ear.surroundings())
    try:
        yield ear
    finally:
        await ear.backend.close()
