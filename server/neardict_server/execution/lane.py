"""The operations of one stream on one domain, which take effect one batch after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ..backends.batches import execute
from .job import CancelledJobError, LateJobError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..backends import base
    from .job import Job
    from .outbox import Outbox


class Lane:
    """A queue, and while there is something in it, a task that works it off.

    What gathers while a batch is under way is the next one: nobody waits for company.
    """

    def __init__(
        self, domain: str, backend: base.Backend, outbox: Outbox, idle: Callable[[str], None]
    ) -> None:
        """`idle` is called with the domain when the task has ended."""
        self._domain = domain
        self.backend = backend
        self._outbox = outbox
        self._idle = idle
        self._waiting: deque[tuple[Job, base.Operation]] = deque()
        self.task = asyncio.create_task(self._work())

    def add(self, job: Job, operation: base.Operation) -> None:
        """Has the operation carried out after those that were added before."""
        self._waiting.append((job, operation))

    def drop_waiting(self) -> None:
        """Forgets what has not begun."""
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                # One who does not read his results gets no others meanwhile.
                await self._outbox.room()
                jobs, operations = self._next_batch()
                if jobs:
                    self._outbox.put_batch(jobs, await self._run(operations))
                if self._waiting:
                    # Backends that never wait would keep everybody else from the event loop.
                    await asyncio.sleep(0)
        except Exception as error:
            # Ours. Its client must not wait for what will never come.
            self._outbox.fail(error)
        finally:
            self._idle(self._domain)

    def _next_batch(self) -> tuple[list[Job], list[base.Operation]]:
        """Takes what can begin now; what must not any more gets its result."""
        jobs: list[Job] = []
        operations: list[base.Operation] = []
        now = asyncio.get_running_loop().time()
        while self._waiting and len(jobs) < self._outbox.batch:
            job, operation = self._waiting.popleft()
            if job.cancelled:
                self._outbox.put_failure(job, CancelledJobError())
            elif job.deadline <= now:
                self._outbox.put_failure(job, LateJobError())
            else:
                jobs.append(job)
                operations.append(operation)
        return jobs, operations

    async def _run(self, operations: list[base.Operation]) -> Sequence[base.Outcome]:
        try:
            outcomes = await execute(self.backend, self._domain, operations)
            if len(outcomes) != len(operations):
                raise RuntimeError("the backend answers for another number of operations")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the backend waited for. Nobody has asked this task to end.
            return [RuntimeError("the backend gave up")] * len(operations)
        except Exception as error:
            return [error] * len(operations)
        return outcomes
