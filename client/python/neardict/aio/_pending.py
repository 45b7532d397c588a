"""The operations of an asynchronous store that are under way."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

from .._executing import Executing
from .._pipeline import milliseconds
from .._retries import AGAIN, pause_after
from ._threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._pipeline import Operation
    from ..v1 import storage_pb2 as pb

_LATE = object()


class Pendings:
    """Sends operations by threads, and has the event loop take in their results."""

    def __init__(self, open_stream: Callable[[Iterator[pb.ExecuteRequest]], Any]) -> None:
        """`open_stream` is as for Executing."""
        self._loop = asyncio.get_running_loop()
        self.executing = Executing(open_stream, self._tell)
        # By when each is overdue, and a timer for the first of them: one for each would cost more than all
        # else that is done for an operation here.
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._guard: asyncio.Task[None] | None = None
        self._alarm_at = math.inf

    async def result(self, operation: Operation, seconds: float) -> Any:
        """Sends the operation, and returns its outcome as `neardict._pending.Pending.result` does."""
        if self._guard is None:
            self._guard = self._loop.create_task(self._end_with_loop())
        operation.message.timeout_milliseconds = milliseconds(seconds)
        deadline = self._loop.time() + seconds
        attempt = 0
        while True:
            operation.waiter = waiter = self._loop.create_future()
            self._deadlines[waiter] = deadline
            if deadline < self._alarm_at:
                self._set_alarm(deadline)
            self.executing.put(operation)
            try:
                outcome = await waiter
                if outcome is _LATE:
                    raise TimeoutError
            except BaseException:
                operation.abandoned = True
                self.executing.put(operation)
                raise
            finally:
                del self._deadlines[waiter]
            attempt += outcome is not AGAIN
            pause = pause_after(outcome, attempt, deadline - self._loop.time())
            if pause is None:
                return outcome
            await asyncio.sleep(pause)

    async def close(self, error: Exception) -> None:
        """Ends everything for good: what is under way has this error as its outcome."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
        await in_thread(lambda: self.executing.close(error), name="neardict close")

    async def _end_with_loop(self) -> None:
        """Ends the threads when the loop cancels its last tasks, though nobody has closed the store."""
        try:
            await self._loop.create_future()
        finally:
            self.executing.pause()

    def _tell(self, settled: list[Operation]) -> None:
        """In any thread."""
        if settled:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(_settle, settled)

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None if at == math.inf else self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        for waiter, deadline in self._deadlines.items():
            if deadline <= now and not waiter.done():
                waiter.set_result(_LATE)
        self._set_alarm(min((at for at in self._deadlines.values() if at > now), default=math.inf))


def _settle(settled: list[Operation]) -> None:
    for operation in settled:
        if not operation.waiter.done():
            operation.waiter.set_result(operation.outcome)
