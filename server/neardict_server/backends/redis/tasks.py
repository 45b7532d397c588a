"""Ending tasks that wait for Redis."""

import asyncio

# After so long a task that has not ended is cancelled again.
_SECONDS = 0.5


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancels the tasks, and returns when all have ended.

    Once may not be enough: redis-py writes by `asyncio.wait_for`, which in Python 3.11 loses a cancellation
    that comes at the moment when what it waits for is done (python/cpython#86296).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
