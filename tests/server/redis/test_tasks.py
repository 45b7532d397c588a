"""Ending tasks that wait for Redis."""

import asyncio
import contextlib

from neardict_server.backends.redis.tasks import end
from waiting import DEADLINE_SECONDS


async def test_a_task_that_loses_a_cancellation_ends_too() -> None:
    async def lose(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(DEADLINE_SECONDS)
        await asyncio.sleep(DEADLINE_SECONDS)

    async def fail() -> None:
        raise RuntimeError

    tasks = [asyncio.create_task(task) for task in (lose(0), lose(1), lose(2), fail())]
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await end(*tasks)
    assert all(task.done() for task in tasks)
    await end()
