"""Subscriptions that are about to begin: each waits for its own engine, and for no other."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from .hub import Hub

# So many domains of one backend begin at the same time on one stream; the others wait for their turn.
AT_ONCE = 8


class Beginnings:
    """Those of one stream; owns their tasks, until `close`.

    An engine that does not answer holds up the domains that it keeps. Were requests of a stream taken one
    after the other, it would hold up pings too, and so make all domains of the client stale.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[Hub, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    def begin(self, domain: str, hub: Hub, subscribe: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Calls `subscribe`, which does not raise, in its turn; in place of an earlier one of the domain."""
        self.cancel(domain)
        task = self._tasks[domain] = asyncio.create_task(self._run(self._turns[hub], subscribe))
        task.add_done_callback(lambda done: self._ended(domain, done))

    def cancel(self, domain: str) -> None:
        """Gives up beginning to send changes of the domain, if that is under way."""
        task = self._tasks.pop(domain, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Gives up all of them."""
        for domain in list(self._tasks):
            self.cancel(domain)

    @staticmethod
    async def _run(turn: asyncio.Semaphore, subscribe: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with turn:
            await subscribe()

    def _ended(self, domain: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(domain) is task:
            del self._tasks[domain]
