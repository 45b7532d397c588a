"""Which operations wait to be sent on an Execute stream, and which for their results. No I/O."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ._retries import AGAIN, jitter, pause_after
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

# So much of one domain may be unanswered, and of a stream: the contract says why. An operation counts as
# one, and one more for each 4 KiB. Beyond its first, an operation also needs that its domain has less than
# half of what is left of SHARED, so that there is room for more domains, though dozens have stalled.
MOST_OF_DOMAIN = 1024
MOST_OF_STREAM = 8192
SHARED = 6144
_COST_BYTES = 4096
# A request closes with so many bytes. One more operation, and it is below what any service takes, which is 64
# KiB beside twice its largest value.
REQUEST_BYTES = 32 * 1024
REQUEST_OPERATIONS = 512
REQUEST_CANCELLED = 512
# Larger ones would hold up what stands behind them. Nor is what is smaller compressed, or sent in chunks.
LARGEST_BYTES = 16 * 1024

_MOST_MILLISECONDS = 2**32 - 1


class Operation:
    """An operation on its way. `outcome` is its result, or why there will be none, once it is settled.

    `waiter` is whom to tell that it is settled. After `deadline`, by the monotonic clock, it is not tried
    again. `timeout` is what the service is told of that, in milliseconds. `is_large` says that it would hold
    up what stands behind it on a stream, so that it is a call of its own. `accept` is how what is looked up
    may be compressed. What it does, subclasses know.
    """

    __slots__ = (
        "abandoned",
        "accept",
        "attempt",
        "cost",
        "deadline",
        "domain",
        "is_large",
        "key",
        "number",
        "outcome",
        "size",
        "timeout",
        "waiter",
    )

    def __init__(self, domain: str, key: str, size: int) -> None:
        """`size` is in bytes."""
        self.domain = domain
        self.key = key
        self.size = size
        self.cost = 1 + size // _COST_BYTES
        self.is_large = size > LARGEST_BYTES
        self.waiter: Any = None
        self.deadline = math.inf
        self.timeout = 0
        self.number = 0
        self.attempt = 1
        self.accept = pb.COMPRESSION_UNSPECIFIED
        self.outcome: Any = None
        self.abandoned = False

    def fill(self, message: pb.Operation) -> None:
        """Words what it does, in place: a message of its own, and a copy, would take twice as long."""
        raise NotImplementedError

    def request(self, kind: str) -> Any:
        """Returns the request of the RPC that does the same."""
        message = pb.Operation()
        self.fill(message)
        return getattr(message, kind)


@functools.lru_cache(maxsize=256)
def milliseconds(seconds: float) -> int:
    """Returns the time as the contract has it: 0 for ever, or longer than can be said."""
    return 0 if seconds > _MOST_MILLISECONDS / 1000 else int(max(1, seconds * 1000))


class Pipeline:
    """Operations of one stream after the other. To be used under a lock. `now` is the monotonic clock's.

    Invariant: each operation that was added is settled once, or abandoned. Those of one domain are sent in
    the order in which they were added, or are due to be tried again.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        # All by number, in order, so that an abandoned one takes no room, however long its domain stalls.
        self._queue: OrderedDict[int, Operation] = OrderedDict()
        # Not sent, as too much of their domain is unanswered. These hold its next ones.
        self._held: dict[str, OrderedDict[int, Operation]] = {}
        # What was sent and has no result, and the cost of that.
        self._unanswered: dict[int, Operation] = {}
        self._sent = 0
        # What is in the queue or unanswered, by domain, as cost.
        self._load: dict[str, int] = {}
        self._total = 0
        self._cancelled: list[int] = []
        # What is to be tried again, by when; the count keeps the order of those of one time.
        self._later: list[tuple[float, int, Operation]] = []
        self._count = itertools.count()

    @property
    def waits(self) -> bool:
        """Whether `take` may have something to send."""
        return bool(self._queue) and self._sent < MOST_OF_STREAM

    @property
    def due(self) -> float | None:
        """When the next operation is to be tried again."""
        return self._later[0][0] if self._later else None

    def add(self, operation: Operation) -> None:
        """Queues the operation."""
        number = operation.number = next(self._numbers)
        domain = operation.domain
        load = self._load.get(domain, 0)
        if domain in self._held or not self._has_room(load):
            self._held.setdefault(domain, OrderedDict())[number] = operation
        else:
            self._load[domain] = load + operation.cost
            self._total += operation.cost
            self._queue[number] = operation

    def add_due(self, now: float) -> None:
        """Queues what is to be tried again by now."""
        while self._later and self._later[0][0] <= now:
            operation = heapq.heappop(self._later)[2]
            if not operation.abandoned:
                self.add(operation)

    def abandon(self, operation: Operation) -> None:
        """Nobody waits for the operation any more: it is not settled. `take` may have more to send."""
        operation.abandoned = True
        number = operation.number
        if number in self._unanswered:
            self._cancelled.append(number)
        elif self._queue.pop(number, None) is not None:
            self._unload(operation)
        elif held := self._held.get(operation.domain):
            held.pop(number, None)
            if not held:
                del self._held[operation.domain]

    def take(self) -> pb.ExecuteRequest | None:
        """Returns what is to be sent next, None if there is nothing."""
        request = pb.ExecuteRequest()
        add = request.operations.add
        taken = size = 0
        while (
            self._queue
            and size < REQUEST_BYTES
            and taken < REQUEST_OPERATIONS
            and self._sent < MOST_OF_STREAM
        ):
            number, operation = self._queue.popitem(last=False)
            if operation.abandoned:
                self._unload(operation)
                continue
            self._unanswered[number] = operation
            self._sent += operation.cost
            message = add()
            operation.fill(message)
            message.number = number
            if operation.timeout:
                message.timeout_milliseconds = operation.timeout
            taken += 1
            size += operation.size
        cancelled = self._cancelled[:REQUEST_CANCELLED]
        if not taken and not cancelled:
            return None
        if cancelled:
            del self._cancelled[:REQUEST_CANCELLED]
            request.cancelled_numbers.extend(cancelled)
        return request

    def received(self, response: pb.ExecuteResponse, now: float) -> list[Operation]:
        """Settles what the response answers, and returns it. What helps nobody yet is tried again later."""
        settled: list[Operation] = []
        for result in response.results:
            operation = self._unanswered.pop(result.number, None)
            if operation is not None:
                self._sent -= operation.cost
                self._unload(operation)
                if result.HasField("error"):
                    settled += self._settle((operation,), result, now)
                elif not operation.abandoned:
                    operation.outcome = result
                    settled.append(operation)
        return settled

    def lost(self, outcome: Any, now: float) -> list[Operation]:
        """The stream has ended with this outcome, which settles what is not to be tried again: returned."""
        held = [operation for those in self._held.values() for operation in those.values()]
        ended = [*self._unanswered.values(), *self._queue.values(), *held]
        self._unanswered.clear()
        self._sent = 0
        self._queue.clear()
        self._held.clear()
        self._load.clear()
        self._total = 0
        self._cancelled.clear()
        return self._settle(ended, outcome, now)

    def refuse(self, outcome: Any, now: float) -> list[Operation]:
        """Settles everything with this outcome, after which nothing is tried again, and returns it."""
        later = [operation for _, _, operation in sorted(self._later)]
        self._later.clear()
        return self.lost(outcome, now) + self._settle(later, outcome, now)

    def _settle(self, operations: Iterable[Operation], outcome: Any, now: float) -> list[Operation]:
        """Settles those that are not to be tried again, and returns them."""
        settled: list[Operation] = []
        factor = jitter()  # of all of them, which keeps their order
        for operation in operations:
            if operation.abandoned:
                continue
            pause = pause_after(outcome, operation.attempt, factor, operation.deadline - now)
            if pause is None:
                operation.outcome = outcome
                settled.append(operation)
            else:
                operation.attempt += outcome is not AGAIN
                heapq.heappush(self._later, (now + pause, next(self._count), operation))
        return settled

    def _has_room(self, load: int) -> bool:
        """Returns whether a domain with this load may have more."""
        return load < MOST_OF_DOMAIN and (not load or 2 * load < SHARED - self._total)

    def _unload(self, operation: Operation) -> None:
        """Takes notice that the operation is not on its way any more: others of its domain may follow."""
        domain = operation.domain
        load = self._load[domain] - operation.cost
        self._total -= operation.cost
        if held := self._held.get(domain):
            while held and self._has_room(load):
                number, following = held.popitem(last=False)
                load += following.cost
                self._total += following.cost
                self._queue[number] = following
            if not held:
                del self._held[domain]
        if load:
            self._load[domain] = load
        else:
            del self._load[domain]
