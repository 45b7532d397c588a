"""Sends the operations of an asynchronous store on an Execute stream of grpc.aio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from .._clock import now
from .._pipeline import Pipeline
from .._retries import AGAIN, LOST, UNSUPPORTED
from .._where import where
from ..errors import ClosedError
from ._threads import running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from .._pipeline import Operation
    from ..v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# What grpc.aio says of a stream that ended under a message on its way out, in place of why it ended.
_FAILED_WRITE = "Internal error from Core"
# For so long, in seconds, one who forks in another thread waits for the loop to end the stream.
_LOOP_SECONDS = 1.0


class Executing:
    """One stream at a time, while there is something to do. Of one event loop, where not said otherwise.

    A task opens the stream when something is put, and reads it for as long as it lasts. It holds neither the
    store nor anybody who waits for a result while it waits itself.
    """

    def __init__(self, open_stream: Callable[[], Any]) -> None:
        """`open_stream` calls the RPC, and returns the call."""
        self._open_stream = open_stream
        self._loop = asyncio.get_running_loop()
        self._pipeline = Pipeline()
        self._call: Any = None
        self._task: asyncio.Task[object] | None = None
        self._writing: asyncio.Task[object] | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        # Set when there may be something to write.
        self._news = asyncio.Event()
        # When something is to be tried again.
        self._alarm: asyncio.TimerHandle | None = None
        self._paused = False
        # What all operations end with from now on.
        self._closed: Exception | None = None
        # Whether the call was ended on this side: what it has not answered may go on the next at once.
        self._ended = False
        # When something came last, by the clock of the loop, which is the monotonic one.
        self._heard = -math.inf
        # Whether the service has the stream; None if it has not shown it yet.
        self.supported: bool | None = None

    def takes(self, operation: Operation) -> bool:
        """Returns whether the operation may be put; if not, it has to be a call of its own."""
        return self.supported is not False and not operation.is_large

    def put(self, operation: Operation) -> None:
        """Has the operation sent, with whatever else is put before the loop comes to that."""
        if self._closed is not None:
            operation.outcome = self._closed
            _settle([operation])
            return
        self._pipeline.add(operation)
        if self._task is not None:
            self._news.set()
        elif self._pipeline.waits:
            self._start()

    def abandon(self, operation: Operation) -> None:
        """Nobody waits for the operation any more."""
        self._pipeline.abandon(operation)
        self._news.set()

    def refuse(self, error: Exception) -> None:
        """Ends everything for good: what is under way, and all that is put, has this error as its outcome."""
        error = self._closed = self._closed or error
        if self._alarm is not None:
            self._alarm.cancel()
        _settle(self._pipeline.refuse(error))
        self._end_call()

    async def end(self, error: Exception) -> None:
        """Refuses, and returns when the stream is over."""
        self.refuse(error)
        if (task := self._task) is not None:
            await asyncio.wait([task])

    def tasks(self) -> list[asyncio.Task[object]]:
        """Returns what runs on the loop."""
        return [task for task in (self._task, self._writing) if task is not None]

    async def close(self, error: Exception) -> None:
        """Does as `end`, for one that need not end with the loop any more."""
        await self.end(error)
        if self._guard is not None:
            # The loop may be about to end, and close it too.
            with contextlib.suppress(RuntimeError):
                await self._guard.aclose()

    def drop(self) -> None:
        """Ends the stream in a moment: nobody can use it any more. From any thread, as finalizers run."""
        self._closed = ClosedError("nobody uses the store any more")
        if running_loop() is self._loop:
            # Now, as the next thing that is done may be a fork.
            self._end_call()
            return
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._end_call)

    def heard(self) -> float:
        """Returns when the service sent something last, by the monotonic clock."""
        return self._heard

    def renew(self) -> None:
        """Begins the stream again, with what has no result: there is another connection."""
        # Another peer, or another way to this one, may have the stream.
        self.supported = self.supported or None
        self._end_call()

    def pause(self) -> bool:
        """Ends the stream before a fork; returns whether to call `resume` after it. From any thread.

        Waits for nothing that the loop does if it is the loop that waits here. gRPC's own thread, which
        serves grpc.aio, goes on; with no stream under way it does no harm to the child.
        """
        if self._closed is not None:
            return False
        self._paused = True
        if not self._loop.is_running() or running_loop() is self._loop:
            self._end_call()
            return True
        ended = threading.Event()

        def end() -> None:
            self._end_call()
            ended.set()

        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(end)
            if not ended.wait(_LOOP_SECONDS):
                # It waits for something itself, maybe for this thread.
                logger.warning("a fork does not wait for an event loop that is busy: its child may crash")
        return True

    def resume(self) -> None:
        """Goes on after a fork, in the parent. From any thread."""
        self._paused = False
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._look)

    def _end_call(self) -> None:
        if (call := self._call) is not None:
            self._ended = True
            # gRPC then reports the end to those who read and write, so that no report of it comes later.
            call.cancel()

    def _start(self) -> None:
        if not self._paused and self._closed is None:
            # Of whoever puts first it must not hold what he has there, maybe the store.
            context = contextvars.Context()
            self._task = self._loop.create_task(self._work(), name="neardict execute", context=context)
            # Not by the task itself: one that is cancelled before it begins does nothing any more.
            self._task.add_done_callback(self._over, context=context)

    def _over(self, task: asyncio.Task[object]) -> None:
        """The task has ended: what has no result goes on the next stream, if that may help."""
        self._task = None
        outcome: object = AGAIN
        if not task.cancelled():
            error = task.exception()
            outcome = task.result() if error is None else LOST
            if error is not None:
                logger.error("a stream failed, and the next one begins: %s", where(error))
        _settle(self._pipeline.lost(outcome, now()))
        if self._closed is None:
            self._look()
        else:
            _settle(self._pipeline.refuse(self._closed))

    def _look(self) -> None:
        """Sends what there is to send."""
        self._pipeline.add_due(now())
        self._set_alarm()
        if self._task is not None:
            self._news.set()
        elif self._pipeline.waits:
            self._start()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        due = self._pipeline.due
        self._alarm = None if due is None else self._loop.call_later(max(0.0, due - now()), self._look)

    async def _work(self) -> object:
        if self._guard is None:
            # Tasks that are there when the loop ends may use the store: this one is ended after them.
            self._guard = _end_with_loop(self)
            await anext(self._guard)
        if self._paused or self._closed is not None:
            return AGAIN
        return await self._serve()

    async def _serve(self) -> object:
        """Opens a stream, and reads it to its end. Returns what that means for operations without result."""
        self._ended = False
        self._call = call = self._open_stream()
        writing = self._writing = self._loop.create_task(self._write(call), name="neardict execute write")
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self._take(response)
                # While the task waits it holds nobody who waited, and with him his store.
                del response
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # What is raised for a call that was cancelled here.
            return AGAIN if self._ended else LOST
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self.supported = False
                return UNSUPPORTED
            if error.code() is grpc.StatusCode.INTERNAL and error.details() == _FAILED_WRITE:
                return LOST
            return error
        finally:
            self._call = None
            call.cancel()
            # It may wait for a connection, of which it is not told if there will be none.
            writing.cancel()
            await asyncio.wait([writing])
        return LOST

    def _take(self, response: pb.ExecuteResponse) -> None:
        self.supported = True
        self._heard = self._loop.time()
        _settle(self._pipeline.received(response, now()))
        if self._pipeline.due is not None:
            self._set_alarm()
        if self._pipeline.waits:
            # With less of a domain unanswered more can be sent.
            self._news.set()

    async def _write(self, call: Any) -> None:
        try:
            while not call.done():
                request, given_up = self._pipeline.take(now())
                _settle(given_up)
                if request is None:
                    self._news.clear()
                    await self._news.wait()
                else:
                    await call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # the call is over, and who reads it is told why
        except Exception as error:
            logger.error("operations could not be sent, and the stream begins again: %s", where(error))
        finally:
            call.cancel()


async def _end_with_loop(executing: Executing) -> AsyncGenerator[None, None]:
    """A generator: the loop closes these after it has cancelled its last tasks, which may use the store."""
    try:
        yield
    finally:
        await executing.end(ClosedError("the event loop of this store has ended: connect in each loop anew"))


def _settle(settled: list[Operation]) -> None:
    for operation in settled:
        if not operation.waiter.done():
            operation.waiter.set_result(operation.outcome)
