"""The streams of Execute: each takes its client's operations, and sends their results."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from .. import limits as checks
from .. import operations
from ..errors import DrainingError, InvalidRequestError
from .job import Job
from .lane import Lane
from .outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from neardict.v1 import storage_pb2 as pb

    from ..backends import base
    from ..limits import Limits
    from ..room import Room
    from ..router import Router

# With so much unanswered a stream is not read, which gRPC's flow control tells the client. The contract
# names both.
MAX_UNANSWERED = 8192
MAX_UNANSWERED_BYTES = 64 * 1024 * 1024
# After so many operations of one request it is the turn of others.
TAKEN_AT_ONCE = 256


class Executions:
    """All Execute streams of a service. `close` ends them, which gRPC's own shutdown would not."""

    def __init__(
        self,
        router: Router[base.Backend],
        limits: Limits,
        refused: Callable[[int], None],
        *,
        arriving: Room,
        leaving: Room,
    ) -> None:
        """`refused` is called with the status code of each operation that fails outside of its backend.

        `arriving` and `leaving` are room for values that come in, and that go out.
        """
        self._router = router
        self._limits = limits
        self._refused = refused
        self._arriving = arriving
        self._leaving = leaving
        self._open: set[_Stream] = set()
        self._closing = False

    async def serve(
        self, requests: AsyncIterator[pb.ExecuteRequest], connection: str
    ) -> AsyncGenerator[pb.ExecuteResponse, None]:
        """Yields the results to one client until he has ended his side and has them all.

        `connection` is what his streams share. Raises when the service drains, after the results of what
        had begun.
        """
        outbox = Outbox(self._limits, self._refused, self._leaving, connection)
        stream = _Stream(requests, self._router, self._limits, outbox, self._arriving, connection)
        self._open.add(stream)
        try:
            async for response in stream.responses():
                yield response
            if self._closing:
                raise DrainingError("the service is shutting down: connect again in a moment")
        finally:
            self._open.discard(stream)
            await stream.close()

    def close(self) -> None:
        """Ends all streams, when the operations that have begun are over."""
        self._closing = True
        for stream in self._open:
            stream.drain()


class _Stream:
    """Reads from its construction until `close`."""

    def __init__(
        self,
        requests: AsyncIterator[pb.ExecuteRequest],
        router: Router[base.Backend],
        limits: Limits,
        outbox: Outbox,
        arriving: Room,
        connection: str,
    ) -> None:
        self._router = router
        self._limits = limits
        self._outbox = outbox
        self._arriving = arriving
        self._connection = connection
        self._lanes: dict[str, Lane] = {}
        self._unanswered: dict[int, Job] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._reader = asyncio.create_task(self._read(requests))
        self._reader.add_done_callback(lambda _: self._outbox.wake())

    async def responses(self) -> AsyncGenerator[pb.ExecuteResponse, None]:
        """Yields until nothing is read any more and everything is answered. Raises what reading raised."""
        while True:
            response, jobs = self._outbox.take()
            if jobs:
                # Before, since who has a result may use its number again.
                self._answered(jobs)
                yield response
            elif self._reader.done() and not self._lanes:
                break
            else:
                await self._outbox.wait()
        if not self._reader.cancelled():
            self._reader.result()

    def drain(self) -> None:
        """Takes no more operations, and forgets those that have not begun."""
        self._reader.cancel()
        for lane in self._lanes.values():
            lane.drop_waiting()

    async def close(self) -> None:
        """Ends everything. What is under way may take effect, or not."""
        tasks = [self._reader, *(lane.task for lane in self._lanes.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._arriving.give(self._connection, self._bytes)
        self._bytes = 0
        self._outbox.close()

    async def _read(self, requests: AsyncIterator[pb.ExecuteRequest]) -> None:
        async for request in requests:
            for number in request.cancelled_numbers:
                if job := self._unanswered.get(number):
                    job.cancelled = True
            now = asyncio.get_running_loop().time()
            for taken, operation in enumerate(request.operations, 1):
                while len(self._unanswered) >= MAX_UNANSWERED or self._bytes >= MAX_UNANSWERED_BYTES:
                    self._room.clear()
                    await self._room.wait()
                if not self._arriving.fits(self._connection, 1):
                    await self._arriving.open(self._connection)
                if (large := self._take(operation, now)) is not None:
                    await self._check(*large)
                if not taken % TAKEN_AT_ONCE:
                    # A request may hold a hundred thousand.
                    await asyncio.sleep(0)

    def _take(self, message: pb.Operation, now: float) -> tuple[Job, str, base.Set] | None:
        """Has the operation carried out. Returns it, and its domain, if its value is still to be checked."""
        number = message.number
        if number in self._unanswered:
            raise InvalidRequestError(f"operation {number} is unanswered: give each a number of its own")
        which = message.WhichOneof("operation")
        if which is None:
            raise InvalidRequestError("an Operation needs get_value, set_value or delete_key")
        milliseconds = message.timeout_milliseconds
        job = Job(number, now + milliseconds / 1000 if milliseconds else math.inf)
        self._unanswered[number] = job
        try:
            return self._read_operation(which, message, job)
        except Exception as error:
            # Also what is unforeseen: it is of this operation alone.
            self._outbox.put_failure(job, error)
        return None

    def _read_operation(
        self, which: str, message: pb.Operation, job: Job
    ) -> tuple[Job, str, base.Set] | None:
        operation: base.Operation
        if which == "get_value":
            get = message.get_value
            lane = self._lane(get.domain)
            operation = operations.read_get(get)
            job.compressed = bool(get.accept)
        elif which == "set_value":
            set_ = message.set_value
            lane = self._lane(set_.domain)
            operation, size = operations.read_set(set_, lane.backend, self._limits)
            if size > checks.ASIDE_BYTES:
                self._hold(job, size)
                return job, set_.domain, operation
            checks.check_content(operation.value, self._limits)
            self._hold(job, size)
        else:
            delete = message.delete_key
            lane = self._lane(delete.domain)
            operation = operations.read_delete(delete)
        lane.add(job, operation)
        return None

    async def _check(self, job: Job, domain: str, operation: base.Set) -> None:
        """Has the operation carried out if its value may be stored. What the stream brings waits for that."""
        try:
            await checks.check_large_content(operation.value, self._limits)
            # Anew, since it ends when it has nothing to do.
            self._lane(domain).add(job, operation)
        except Exception as error:
            self._hold(job, -job.size)
            self._outbox.put_failure(job, error)

    def _hold(self, job: Job, size: int) -> None:
        """Takes notice that the operation holds so many bytes more."""
        job.size += size
        self._bytes += size
        if size > 0:
            self._arriving.take(self._connection, size)
        else:
            self._arriving.give(self._connection, -size)

    def _lane(self, domain: str) -> Lane:
        lane = self._lanes.get(domain)
        if lane is None:
            checks.check_domain(domain)
            backend = self._router.backend(domain)
            lane = self._lanes[domain] = Lane(domain, backend, self._outbox, self._idle)
        return lane

    def _answered(self, jobs: list[Job]) -> None:
        for job in jobs:
            del self._unanswered[job.number]
            self._hold(job, -job.size)
        self._room.set()

    def _idle(self, domain: str) -> None:
        del self._lanes[domain]
        self._outbox.wake()
