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
        self.executing = Executing(open_stream, functools.partial(_tell, self._loop))
        weakref.finalize(self, self.executing.drop).atexit = False
        # By when each is overdue, and a timer for the first of them: one for each would cost more than all
        # else that is done for an operation here.
        self.deadlines: dict[asyncio.Future[Any], float] = {}
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

    def begin(self, operation: Operation, seconds: float) -> Pending:
        """Sends the operation."""
        deadline = self._loop.time() + seconds
        operation.waiter = self._loop.create_future()
        operation.message.timeout_milliseconds = milliseconds(seconds)
        operation.deadline = time.monotonic() + seconds
        if seconds > 0:
            self.deadlines[operation.waiter] = deadline
            if deadline < self._alarm_at:
                self._set_alarm(deadline)
            self.put(operation)
        else:
            operation.waiter.set_result(_LATE)
        return Pending(self, operation, deadline)

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
        for waiter, deadline in self.deadlines.items():
            if deadline <= now and not waiter.done():
                waiter.set_result(_LATE)
        following = min((at for at in self.deadlines.values() if at > now), default=math.inf)
        self._set_alarm(max(following, now + _LOOK_SECONDS))


class Pending:
    """Has been sent, unless there is no time at all, and has a `result`, which can be had once."""

    __slots__ = ("_operation", "_pendings", "deadline")

    def __init__(self, pendings: Pendings, operation: Operation, deadline: float) -> None:
        """`deadline` is by the clock of the loop."""
        self._pendings = pendings
        self._operation = operation
        self.deadline = deadline

    async def result(self) -> Any:
        """Waits for the outcome, as `neardict._pending.Pending.result` does. Raises TimeoutError."""
        waiter = self._operation.waiter
        try:
            outcome = await waiter
            if outcome is _LATE:
                raise TimeoutError
        except BaseException:
            self.cancel()
            raise
        self._pendings.deadlines.pop(waiter, None)
        return outcome

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self._pendings.deadlines.pop(self._operation.waiter, None)
        self._operation.abandoned = True
        self._pendings.put(self._operation)


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
