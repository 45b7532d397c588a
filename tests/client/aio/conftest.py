"""Asynchronous stores, of the served binary and behind the gate."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neardict import aio
from served import Served

from ..gate import Gate


@pytest.fixture
async def astore(server: Served) -> AsyncIterator[aio.Store]:
    async with aio.connect(server.address, watch=False) as store:
        yield store


@pytest.fixture
async def agated(gate: Gate) -> AsyncIterator[aio.Store]:
    """A store behind the gate."""
    async with aio.connect(gate.address, watch=False) as store:
        yield store


@pytest.fixture(autouse=True)
async def nothing_is_lost() -> AsyncIterator[None]:
    """No test leaves a task behind, nor an error that nobody has seen."""
    unseen: list[object] = []

    def handle(_: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # Which grpc before 1.85 causes where several loops have used it: https://github.com/grpc/grpc/issues/25364
        if isinstance(error, BlockingIOError):
            return
        # The end of a call of another loop, which was closed before it was told of that.
        if isinstance(error, RuntimeError) and str(error) == "Event loop is closed":
            return
        unseen.append(context)

    asyncio.get_running_loop().set_exception_handler(handle)
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert not unseen
    mine = {task for task in asyncio.all_tasks() - before if "neardict" in repr(task.get_coro())}
    assert not mine
