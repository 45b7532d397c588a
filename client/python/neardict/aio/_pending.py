"""The operations of an asynchronous store that are under way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
import weakref
from typing import TYPE_CHECKING, Any

from .._executing import Executing
from .._pipeline import milliseconds
from ._threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from .._pipeline import Operation
    from ..v1 import storage_pb2 as pb

_LATE = object()
# Overdue operations are looked for no more often, since that looks at each that is under way.
_LOOK_SECONDS = 0.005


class Pendings:
    """Sends operations by threads, and has the event loop take in their results."""

    def __init__(self, open_stream: Callable[[Iterator[pb.ExecuteRequest]], Any]) -> None:
        """`open_stream` is as for Executing."""
        self._loop = asyncio.get_running_loop()
        self.executing = Executing(open_stream, functools.partial(_tell, self._loop), gather=False)
        weakref.finalize(self, self.executing.drop).atexit = False
        # By when each is overdue, and a timer for the first of them: one for each would cost more than all
        # else that is done for an operation here.
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._guard: AsyncGenerator[None, None] | None = None
        self._outgoing: list[Operation] = []

    @property
    def guarded(self) -> bool:
        """Whether `guard` has been called."""
        return self._guard is not None

    async def guard(self) -> None:
        """Has the threads ended with the loop, though nobody closes the store."""
        if self._guard is None:
            self._guard = _end_with_loop(self.executing)
            await anext(self._guard)

    def begin(self, operation: Operation, seconds: float) -> None:
        """Sends the operation, unless there is no time at all."""
        operation.message.timeout_milliseconds = milliseconds(seconds)
        operation.waiter = waiter = self._loop.create_future()
        # The clock of the loop is this one.
        operation.deadline = deadline = time.monotonic() + seconds
        if seconds > 0:
            self._deadlines[waiter] = deadline
            if deadline < self._alarm_at:
                self._set_alarm(deadline)
            self.put(operation)
        else:
            waiter.set_result(_LATE)

    async def result(self, operation: Operation) -> Any:
        """Waits for the outcome, as `neardict._pending.Pending.result` does. Raises TimeoutError."""
        try:
            outcome = await operation.waiter
            if outcome is _LATE:
                raise TimeoutError
        except BaseException:
            self.cancel(operation)
            raise
        self._deadlines.pop(operation.waiter, None)
        return outcome

    def cancel(self, operation: Operation) -> None:
        """Nobody waits for the outcome any more."""
        self._deadlines.pop(operation.waiter, None)
        operation.abandoned = True
        self.put(operation)

    def put(self, operation: Operation) -> None:
        """Has the operation sent, or forgotten, with what other tasks put that run now."""
        if not self._outgoing:
            self._loop.call_soon(self._hand_over)
        self._outgoing.append(operation)

    async def close(self, error: Exception) -> None:
        """Ends everything for good: what is under way has this error as its outcome."""
        if self._alarm is not None:
            self._alarm.cancel()
        await in_thread(lambda: self.executing.close(error), name="neardict close")
        if self._guard is not None:
            await self._guard.aclose()

    def _hand_over(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self.executing.put(*outgoing)

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
        following = min((at for at in self._deadlines.values() if at > now), default=math.inf)
        self._set_alarm(max(following, now + _LOOK_SECONDS))


async def _end_with_loop(executing: Executing) -> AsyncGenerator[None, None]:
    """A generator: the loop closes these after it has cancelled its last tasks, which may use the store."""
    try:
        yield
    finally:
        executing.pause()


def _tell(loop: asyncio.AbstractEventLoop, settled: list[Operation]) -> None:
    """In any thread."""
    if settled:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: list[Operation]) -> None:
    for operation in settled:
        if not operation.waiter.done():
            operation.waiter.set_result(operation.outcome)
