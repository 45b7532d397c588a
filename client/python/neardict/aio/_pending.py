"""The operations of an asynchronous store that are under way."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from .._clock import now
from ._executing import Executing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._pipeline import Operation

# The outcome of what has none in time.
LATE = object()
# Overdue operations are looked for no more often, since that looks at each that is under way.
_LOOK_SECONDS = 0.005


class Pendings:
    """Sends operations, and sees to it that nobody waits for longer than he wants to."""

    def __init__(self, open_stream: Callable[[], Any]) -> None:
        """`open_stream` is as for Executing."""
        self._loop = asyncio.get_running_loop()
        self.executing = Executing(open_stream)
        # By when each is overdue, by `now`, and a timer for the first of them: one for each would cost more
        # than all else that is done for an operation here.
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    def begin(self, operation: Operation, seconds: float) -> None:
        """Sends the operation, unless there is no time at all. `operation.waiter` is to be awaited.

        It gives the outcome, as `neardict._pending.Pending.result`; LATE if there is none in time. What is
        awaited no more, or LATE, has to be cancelled, and anything else is `over`.
        """
        operation.waiter = waiter = self._loop.create_future()
        operation.begin(now(), seconds)
        if seconds > 0:
            self._deadlines[waiter] = deadline = operation.deadline
            if deadline < self._alarm_at:
                self._set_alarm(deadline)
            self.executing.put(operation)
        else:
            waiter.set_result(LATE)

    def over(self, operation: Operation) -> None:
        """The operation has its outcome."""
        self._deadlines.pop(operation.waiter, None)

    def cancel(self, operation: Operation) -> None:
        """Nobody waits for the outcome any more."""
        self._deadlines.pop(operation.waiter, None)
        self.executing.abandon(operation)

    async def close(self, error: Exception) -> None:
        """Ends everything for good: what is under way has this error as its outcome."""
        await self.executing.close(error)
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None if at == math.inf else self._loop.call_later(at - now(), self._ring)

    def _ring(self) -> None:
        time = now()
        for waiter, deadline in self._deadlines.items():
            if deadline <= time and not waiter.done():
                waiter.set_result(LATE)
        following = min((at for at in self._deadlines.values() if at > time), default=math.inf)
        self._set_alarm(max(following, time + _LOOK_SECONDS))
