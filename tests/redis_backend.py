"""Opens redis backends in tests, and asks them briefly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.errors import (
    BackendUnavailableError,
)
from redis_server import RedisServer
from waiting import DEADLINE_SECONDS as DEADLINE_SECONDS

DOMAIN = "service_1.channel_7.health_bars"
PLACE = f"neardict:{{{DOMAIN}}}"
# The machine of a test may be busy for longer than an operator would wait.
PATIENT = {"command_timeout_seconds": DEADLINE_SECONDS}


@asynccontextmanager
async def opened(server: RedisServer, **settings: Any) -> AsyncIterator[RedisBackend]:
    place = {} if "url" in settings else {"host": server.host, "port": server.port}
    model = RedisBackend.Settings.model_validate(place | PATIENT | settings)
    backend = await RedisBackend.open(model, base.Surroundings(Path()))
    try:
        yield backend
    finally:
        await backend.close()


async def value_of(backend: RedisBackend, domain: str, key: str) -> base.Value | None:
    entry = (await backend.get_value(domain, key)).entry
    return None if entry is None else entry.value


async def listed(backend: RedisBackend, domain: str, *, prefix: str = "") -> list[str]:
    return [key async for page in backend.all_keys(domain, prefix=prefix) for key in page.keys]


async def until_usable(operation: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await operation()
            except BackendUnavailableError:
                await asyncio.sleep(0.01)
            else:
                return


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.01)
