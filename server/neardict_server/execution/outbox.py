"""What a stream has to send: successes, which are worded when it is their turn, and failures."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from neardict.v1 import storage_pb2 as pb

from .. import operations
from ..backends import base
from ..compression import check_plain
from . import failures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..limits import Limits
    from ..room import Room
    from .job import Job

# A response holds at most so many results, and bytes, but for a single one that is larger.
RESPONSE_RESULTS = 512
# A message costs as much as some ten results, on both sides.
FEW_RESULTS = 32
RESPONSE_BYTES = 256 * 1024
# With more than this to be sent, nothing more is carried out.
MAX_BYTES = 4 * 1024 * 1024
# How many operations a lane carries out at once: fewer while the values that they bring are large.
MAX_BATCH = 256
FIRST_BATCH = 8
BATCH_BYTES = 512 * 1024
# What a result takes beside its value, about.
_OVERHEAD = 64


class Outbox:
    """Of one stream, used on the event loop alone."""

    def __init__(
        self, limits: Limits, refused: Callable[[int], None], leaving: Room, connection: str
    ) -> None:
        """`refused` is called with the status code of each operation that fails outside of its backend.

        `leaving` is the room for what waits to be sent, and `connection` who holds it.
        """
        self._leaving = leaving
        self._connection = connection
        self._limits = limits
        self._refused = refused
        self.batch = FIRST_BATCH
        self._waiting: deque[tuple[Job, base.Success | pb.OperationError, int]] = deque()
        self._failure: Exception | None = None
        self._bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def put_failure(self, job: Job, error: Exception) -> None:
        """Has the operation, which has not begun, fail with the error."""
        words = failures.word(error)
        self._refused(words.code)
        self._put(job, words)
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Has `take` raise the error: not all outcomes will come."""
        self._failure = error
        self._news.set()

    def put_batch(self, jobs: Sequence[Job], outcomes: Sequence[base.Outcome]) -> None:
        """Has the outcomes of a batch sent, and learns from it how large the next one should be."""
        before = self._bytes
        latest: Exception | None = None
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                self._put(job, outcome)
                continue
            if outcome is not latest:
                # Once, and so in the log too, if all have failed for the same reason.
                latest, words = outcome, failures.word(outcome)
            self._put(job, words)
        size = self._bytes - before
        if size > BATCH_BYTES:
            self.batch = max(1, self.batch // 2)
        elif size < BATCH_BYTES // 2:
            self.batch = min(MAX_BATCH, 2 * self.batch)
        self._news.set()

    async def room(self) -> None:
        """Returns when what waits is little enough."""
        # Each looks for himself: who has waited longest may have filled it up again.
        while self._bytes > MAX_BYTES:
            self._room.clear()
            await self._room.wait()
        await self._leaving.open(self._connection)

    def close(self) -> None:
        """Nothing more is sent."""
        self._leaving.give(self._connection, self._bytes)
        self._bytes = 0
        self._waiting.clear()

    def wake(self) -> None:
        """Lets `wait` return."""
        self._news.set()

    async def wait(self) -> None:
        """Returns when there is something to send, or after `wake`."""
        if not self._waiting:
            await self._news.wait()
        self._news.clear()

    def take(self) -> tuple[pb.ExecuteResponse, list[Job]]:
        """Returns the next response, and the operations that it answers: none if nothing waits."""
        if self._failure is not None:
            raise self._failure
        response = pb.ExecuteResponse()
        add = response.results.add
        jobs: list[Job] = []
        size = 0
        # In halves, so that the client works on one while the other is worded here.
        most = min(RESPONSE_RESULTS, max(FEW_RESULTS, -(-len(self._waiting) // 2)))
        while self._waiting and len(jobs) < most:
            job, outcome, more = self._waiting[0]
            if jobs and size + more > RESPONSE_BYTES:
                break
            self._waiting.popleft()
            jobs.append(job)
            size += more
            result = add()
            result.number = job.number
            try:
                self._word(job, result, outcome)
            except Exception as error:
                # What a backend of another distribution returned has no words. Others' results are fine.
                result.error.CopyFrom(failures.word(error))
                self._refused(result.error.code)
        self._bytes -= size
        self._leaving.give(self._connection, size)
        if self._bytes <= MAX_BYTES:
            self._room.set()
        return response, jobs

    def _put(self, job: Job, outcome: base.Success | pb.OperationError) -> None:
        size = _size(outcome)
        self._waiting.append((job, outcome, size))
        self._bytes += size
        self._leaving.take(self._connection, size)

    def _word(self, job: Job, result: pb.OperationResult, outcome: base.Success | pb.OperationError) -> None:
        if isinstance(outcome, base.Lookup):
            if job.compressed and outcome.entry is not None:
                check_plain(outcome.entry.value)
            operations.word_lookup(outcome, result.get_value, self._limits)
        elif isinstance(outcome, base.Written):
            operations.word_written(outcome, result.set_value)
        elif isinstance(outcome, base.Deleted):
            operations.word_deleted(outcome, result.delete_key)
        else:
            result.error.CopyFrom(outcome)


def _size(outcome: base.Success | pb.OperationError) -> int:
    if isinstance(outcome, base.Lookup) and (entry := outcome.entry) is not None:
        return _OVERHEAD + len(entry.key) + len(entry.value)
    return _OVERHEAD
