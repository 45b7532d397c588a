"""Single gets and sets by how long the value is."""

import asyncio
from collections.abc import Awaitable
from contextlib import ExitStack
from typing import Any

import redis.asyncio

from neardict import aio

from .. import echo, load
from ..backends import RedisServer, one
from ..clients import opened
from ..operations import DOMAIN, AsyncEcho
from .series import Series, Sweep
from .size import Size

TASKS = 16


class _Near:
    def __init__(self, address: str) -> None:
        self._store = aio.connect(address)

    def get(self, length: int) -> Awaitable[Any]:
        return self._store.get_value(DOMAIN, str(length))

    def set(self, length: int) -> Awaitable[Any]:
        return self._store.set_value(DOMAIN, str(length), b"x" * length)

    async def close(self) -> None:
        await self._store.close()


class _Redis:
    def __init__(self, server: RedisServer) -> None:
        self._redis: Any = redis.asyncio.Redis(host=server.host, port=server.port)

    def get(self, length: int) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._redis.get(str(length))
        return answer

    def set(self, length: int) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._redis.set(str(length), b"x" * length)
        return answer

    async def close(self) -> None:
        await self._redis.aclose()


def measure(size: Size) -> list[Sweep]:
    """Returns what a call costs, with values of bytes."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        served = stack.enter_context(one("memory"))
        address = stack.enter_context(echo.running())
        runner = stack.enter_context(asyncio.Runner())
        near = stack.enter_context(opened(runner, lambda: _Near(served.address)))
        peer = stack.enter_context(opened(runner, lambda: _Redis(server)))
        bare = stack.enter_context(opened(runner, lambda: AsyncEcho(address)))
        calls = {
            "neardict, set": near.set,
            "neardict, get": near.get,
            "redis.asyncio, set": peer.set,
            "redis.asyncio, get": peer.get,
            "bare grpcio echo": lambda length: bare.send(b"x" * length),
        }
        lines = {title: Series(title) for title in calls}
        for number in range(-1, size.rounds):  # the first is to warm up
            for length in size.value_bytes:
                for title, call in calls.items():
                    numbers = (length for _ in load.lasting(size.seconds))
                    rate = runner.run(load.run_async(call, numbers, callers=TASKS)).rate
                    if number >= 0:
                        lines[title].note(_words(length), 1e6 / rate)
    return [
        Sweep(
            "values",
            f"Cost of a call by length of the value, {TASKS} tasks",
            "bytes",
            "microseconds",
            list(lines.values()),
        )
    ]


def _words(length: int) -> str:
    return f"{length // 1024:,} KiB" if length >= 1024 else f"{length}"
