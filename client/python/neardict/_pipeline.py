"""Which operations wait to be sent on an Execute stream, and which for their results. No I/O."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from .v1 import storage_pb2 as pb

# So much of one domain may be unanswered, and of a stream: the contract says why. An operation counts as
# one, and one more for each 4 KiB.
MOST_OF_DOMAIN = 1024
MOST_OF_STREAM = 8192
_COST_BYTES = 4096
# A request closes with so many bytes. One more operation, and it is below what any service takes, which is 64
# KiB beside twice its largest value.
REQUEST_BYTES = 32 * 1024
REQUEST_OPERATIONS = 512
# Larger ones would hold up what stands behind them on the stream: they are calls of their own.
LARGEST_BYTES = 16 * 1024

_MOST_MILLISECONDS = 2**32 - 1


class Operation:
    """An operation on its way. `outcome` is its result, or why there will be none, once it is settled.

    `size` is in bytes. `waiter` is whom to tell that it is settled.
    """

    __slots__ = ("abandoned", "domain", "message", "outcome", "size", "waiter")

    def __init__(self, domain: str, message: pb.Operation, size: int) -> None:
        self.domain = domain
        self.message = message
        self.size = size
        self.waiter: Any = None
        self.outcome: Any = None
        self.abandoned = False

    @property
    def cost(self) -> int:
        """What it takes of the room of its domain."""
        return 1 + self.size // _COST_BYTES


def milliseconds(seconds: float) -> int:
    """Returns the time as the contract has it: 0 for ever, or longer than can be said."""
    return 0 if seconds > _MOST_MILLISECONDS / 1000 else max(1, int(seconds * 1000))


class Pipeline:
    """Operations of one stream after the other. To be used under a lock.

    Invariant: each operation that was added is settled once, or abandoned. Those of one domain are sent in
    the order in which they were added.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._queue: deque[Operation] = deque()
        # Not sent, as too much of their domain is unanswered. These hold its next ones.
        self._held: dict[str, deque[Operation]] = {}
        # By number, what was sent and has no result.
        self._unanswered: dict[int, Operation] = {}
        # What is in the queue or unanswered, by domain, as cost.
        self._load: dict[str, int] = {}
        self._cancelled: list[int] = []

    @property
    def waits(self) -> bool:
        """Whether `take` may have something to send."""
        return bool(self._queue) and len(self._unanswered) < MOST_OF_STREAM

    def add(self, operation: Operation) -> None:
        """Queues the operation."""
        operation.message.number = next(self._numbers)
        domain = operation.domain
        load = self._load.get(domain, 0)
        if load >= MOST_OF_DOMAIN:
            self._held.setdefault(domain, deque()).append(operation)
        else:
            self._load[domain] = load + operation.cost
            self._queue.append(operation)

    def abandon(self, operation: Operation) -> None:
        """Nobody waits for the operation any more: it is not settled. `take` may have more to send."""
        operation.abandoned = True
        if operation.message.number in self._unanswered:
            self._cancelled.append(operation.message.number)

    def take(self) -> pb.ExecuteRequest | None:
        """Returns what is to be sent next, None if there is nothing."""
        messages: list[pb.Operation] = []
        size = 0
        unanswered = self._unanswered
        while (
            self._queue
            and size < REQUEST_BYTES
            and len(messages) < REQUEST_OPERATIONS
            and len(unanswered) < MOST_OF_STREAM
        ):
            operation = self._queue.popleft()
            if operation.abandoned:
                self._unload(operation)
                continue
            message = operation.message
            unanswered[message.number] = operation
            messages.append(message)
            size += operation.size
        if not messages and not self._cancelled:
            return None
        cancelled, self._cancelled = self._cancelled, []
        return pb.ExecuteRequest(operations=messages, cancelled_numbers=cancelled)

    def received(self, response: pb.ExecuteResponse) -> list[Operation]:
        """Settles what the response answers, and returns it."""
        settled: list[Operation] = []
        for result in response.results:
            operation = self._unanswered.pop(result.number, None)
            if operation is not None:
                self._unload(operation)
                if not operation.abandoned:
                    operation.outcome = result
                    settled.append(operation)
        return settled

    def fail(self, outcome: Any) -> list[Operation]:
        """Settles everything with this outcome, and returns it: the stream is lost."""
        held = [operation for those in self._held.values() for operation in those]
        failed = [
            operation
            for operation in (*self._unanswered.values(), *self._queue, *held)
            if not operation.abandoned
        ]
        self._unanswered.clear()
        self._queue.clear()
        self._held.clear()
        self._load.clear()
        self._cancelled.clear()
        for operation in failed:
            operation.outcome = outcome
        return failed

    def _unload(self, operation: Operation) -> None:
        """Takes notice that the operation is not on its way any more: others of its domain may follow."""
        domain = operation.domain
        load = self._load[domain] - operation.cost
        if held := self._held.get(domain):
            while held and load < MOST_OF_DOMAIN:
                following = held.popleft()
                load += following.cost
                self._queue.append(following)
            if not held:
                del self._held[domain]
        if load:
            self._load[domain] = load
        else:
            del self._load[domain]
