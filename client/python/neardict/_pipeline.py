"""Which operations wait to be sent on an Execute stream, and which for their results. No I/O."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ._backoff import jitter
from ._retries import (
    AGAIN,
    ATTEMPTS,
    BACKOFF,
    LOST,
    REPEAT_SECONDS,
    has_arrived,
    is_transient,
    most_streams,
)
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

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

    `waiter` is whom to tell that it is settled. After `deadline`, by the clock of `_clock`, it is not tried
    again. `timeout` is what the service is told of that, in milliseconds. `last` is how the attempt before
    has failed, None if none has; `in_flight` whether one has been sent that has no answer. `sent` is when
    the first attempt was sent that may have arrived. `limited` says that the deadline is earlier than whoever
    waits would have it, as it is a write that has perhaps been applied. `is_large` says that it would hold up
    what stands behind it on a stream, so that it is a call of its own. `accept` is how what is looked up may
    be compressed. What it does, subclasses know.
    """

    __slots__ = (
        "abandoned",
        "accept",
        "alone",
        "broken",
        "cost",
        "deadline",
        "domain",
        "failures",
        "in_flight",
        "is_large",
        "key",
        "last",
        "limited",
        "number",
        "outcome",
        "sent",
        "size",
        "timeout",
        "waiter",
    )

    # Whether it changes what is stored.
    writes = True

    def __init__(self, domain: str, key: str, size: int) -> None:
        """`size` is in bytes."""
        self.domain = domain
        self.key = key
        self.size = size
        self.cost = 1 + size // _COST_BYTES
        self.is_large = size > LARGEST_BYTES
        self.waiter: Any = None
        self.sent: float | None = None
        self.deadline = math.inf
        self.timeout = 0
        self.number = 0
        self.accept = pb.COMPRESSION_UNSPECIFIED
        # How many attempts the backend has failed, and how many streams broke for reasons of their own.
        self.failures = self.broken = 0
        # Whether it fails while others of its domain succeed, so that these need not wait for it.
        self.alone = False
        self.in_flight = self.limited = False
        self.last: Any = None
        self.outcome: Any = None
        self.abandoned = False

    def begin(self, now: float, seconds: float) -> None:
        """It may take so many seconds from now on."""
        self.deadline = now + seconds
        self.timeout = milliseconds(seconds)

    def failed(self, *, arrived: bool) -> None:
        """An attempt has no result. If it has perhaps been applied, it is repeated while that is safe."""
        if not self.writes or self.sent is None:
            return
        if not arrived:
            # Nor has one before it, or the deadline would say so.
            self.sent = self.sent if self.limited else None
        elif self.sent + REPEAT_SECONDS < self.deadline:
            self.deadline = self.sent + REPEAT_SECONDS
            self.limited = True

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
    """Operations of one stream after the other. To be used under a lock. `now` is that of `_clock`.

    Invariant: each operation that was added is settled once, or abandoned. Those of one domain are sent in
    the order in which they were added, also after a stream was lost or their backend was down: while one
    waits to be tried again, those behind it wait too. They do not wait for one that fails while others of the
    domain succeed, as that is its own matter.
    """

    def __init__(self, jitter: Callable[[], float] = jitter) -> None:
        self._jitter = jitter
        self._numbers = itertools.count(1)
        # All by number, in order, so that an abandoned one takes no room, however long its domain stalls.
        self._queue: OrderedDict[int, Operation] = OrderedDict()
        # Not sent, as too much of their domain is unanswered, or it is locked. These hold its next ones.
        self._held: dict[str, OrderedDict[int, Operation]] = {}
        # What was sent and has no result, and the cost of that.
        self._unanswered: dict[int, Operation] = {}
        self._sent = 0
        # What is in the queue or unanswered, by domain, as cost.
        self._load: dict[str, int] = {}
        self._total = 0
        self._cancelled: list[int] = []
        # What failed alone and is to be tried again, by when, and in the order of their numbers.
        self._later: list[tuple[float, int, Operation]] = []
        # Domains of which nothing is sent until that time, since their backend was down.
        self._locked: dict[str, float] = {}
        # How many streams were lost since the last answer, and when the next one is to be opened.
        self._losses = 0
        self._next_stream: float | None = None

    @property
    def waits(self) -> bool:
        """Whether `take` may have something to send."""
        return bool(self._queue) and self._sent < MOST_OF_STREAM and self._next_stream is None

    @property
    def due(self) -> float | None:
        """When something is to be tried again."""
        later = self._later[0][0] if self._later else None
        if self._next_stream is None:
            return later
        return self._next_stream if later is None else min(later, self._next_stream)

    def add(self, operation: Operation) -> None:
        """Queues the operation."""
        operation.number = next(self._numbers)
        self._enqueue(operation)

    def add_due(self, now: float) -> None:
        """Queues what is to be tried again by now."""
        if self._next_stream is not None and self._next_stream <= now:
            self._next_stream = None
        again: dict[str, list[Operation]] = {}
        while self._later and self._later[0][0] <= now:
            operation = heapq.heappop(self._later)[2]
            # Also if it is abandoned: its domain is locked until then.
            again.setdefault(operation.domain, []).append(operation)
        for domain, operations in again.items():
            if self._locked.get(domain, math.inf) <= now:
                del self._locked[domain]
            # Before those that came later, and perhaps stand here only because these were to be waited for.
            waiting = [one for one in operations if not one.abandoned]
            waiting += self._held.pop(domain, {}).values()
            for operation in sorted(waiting, key=_number):
                self._enqueue(operation)

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

    def take(self, now: float) -> tuple[pb.ExecuteRequest | None, list[Operation]]:
        """Returns what is to be sent next, None if there is nothing, and what it is too late for."""
        settled: list[Operation] = []
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
            if operation.limited and operation.deadline <= now:
                self._unload(operation)
                operation.outcome = LOST if operation.last is None else operation.last
                settled.append(operation)
                continue
            self._unanswered[number] = operation
            operation.in_flight = True
            if operation.sent is None:
                operation.sent = now
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
            return None, settled
        if cancelled:
            del self._cancelled[:REQUEST_CANCELLED]
            request.cancelled_numbers.extend(cancelled)
        return request, settled

    def received(self, response: pb.ExecuteResponse, now: float) -> list[Operation]:
        """Settles what the response answers, and returns it. What helps nobody yet is tried again later."""
        self._losses = 0
        settled: list[Operation] = []
        for result in response.results:
            operation = self._unanswered.pop(result.number, None)
            if operation is not None:
                self._sent -= operation.cost
                self._unload(operation)
                if operation.abandoned:
                    continue
                down = result.HasField("error") and is_transient(result.error)
                if down:
                    operation.failed(arrived=True)
                    if operation.deadline > now:
                        self._try_later(operation, result, now)
                        continue
                operation.outcome = result
                settled.append(operation)
                if self._locked and not down:
                    self._unlock(operation.domain)
        return settled

    def lost(self, outcome: Any, now: float) -> list[Operation]:
        """The stream has ended with this outcome, which settles what is not to be tried again: returned."""
        ended = self._forget_all()
        most = most_streams(outcome)
        arrived = has_arrived(outcome)
        settled: list[Operation] = []
        left: list[Operation] = []
        for operation in ended:
            in_flight, operation.in_flight = operation.in_flight, False
            if in_flight:
                operation.failed(arrived=arrived)
            if outcome is AGAIN:
                # That is the outcome of nothing: one that is overdue is given up by `take`, or who waits.
                left.append(operation)
                continue
            operation.broken += in_flight and most == ATTEMPTS
            operation.last = outcome
            if most == 1 or operation.broken >= ATTEMPTS or operation.deadline <= now:
                operation.outcome = outcome
                settled.append(operation)
            else:
                left.append(operation)
        if outcome is not AGAIN and left:
            self._losses += 1
            self._next_stream = now + BACKOFF.wait(self._losses, self._jitter)
        for operation in left:
            operation.timeout = milliseconds(operation.deadline - now)
            self._enqueue(operation)
        return settled

    def refuse(self, outcome: Any) -> list[Operation]:
        """Settles everything with this outcome, after which nothing is tried again, and returns it."""
        refused = self._forget_all()
        for operation in refused:
            operation.outcome = outcome
        return refused

    def _forget_all(self) -> list[Operation]:
        """Returns all that is neither settled nor abandoned, in its order, and forgets it."""
        held = [operation for those in self._held.values() for operation in those.values()]
        later = [operation for _, _, operation in self._later]
        known = [*self._unanswered.values(), *self._queue.values(), *held, *later]
        self._unanswered.clear()
        self._sent = 0
        self._queue.clear()
        self._held.clear()
        self._load.clear()
        self._total = 0
        self._cancelled.clear()
        self._later.clear()
        self._locked.clear()
        self._next_stream = None
        return sorted((operation for operation in known if not operation.abandoned), key=_number)

    def _enqueue(self, operation: Operation) -> None:
        domain = operation.domain
        load = self._load.get(domain, 0)
        if domain in self._held or domain in self._locked or not self._has_room(load):
            self._held.setdefault(domain, OrderedDict())[operation.number] = operation
        else:
            self._load[domain] = load + operation.cost
            self._total += operation.cost
            self._queue[operation.number] = operation

    def _try_later(self, operation: Operation, result: pb.OperationResult, now: float) -> None:
        """Has the operation tried again in a while, and what stands behind it wait for that."""
        operation.in_flight = False
        operation.last = result
        operation.failures += 1
        domain = operation.domain
        due = self._locked.get(domain)
        if operation.alone:
            due = now + BACKOFF.wait(operation.failures, self._jitter)
        elif due is None:
            # Those that failed together are sent together, and in their order.
            due = self._locked[domain] = now + BACKOFF.wait(operation.failures, self._jitter)
            behind = [one for one in self._queue.values() if one.domain == domain]
            for queued in behind:
                del self._queue[queued.number]
                self._unload(queued)
            if behind:
                behind += self._held.get(domain, {}).values()
                self._held[domain] = OrderedDict((one.number, one) for one in behind)
        operation.timeout = milliseconds(operation.deadline - now)
        heapq.heappush(self._later, (due, operation.number, operation))

    def _unlock(self, domain: str) -> None:
        """The backend has answered: what waits behind those that it failed goes on."""
        if self._locked.pop(domain, None) is not None:
            for _, _, failed in self._later:
                failed.alone = failed.alone or failed.domain == domain
            for operation in self._held.pop(domain, {}).values():
                self._enqueue(operation)

    def _has_room(self, load: int) -> bool:
        """Returns whether a domain with this load may have more."""
        return load < MOST_OF_DOMAIN and (not load or 2 * load < SHARED - self._total)

    def _unload(self, operation: Operation) -> None:
        """Takes notice that the operation is not on its way any more: others of its domain may follow."""
        domain = operation.domain
        load = self._load[domain] - operation.cost
        self._total -= operation.cost
        if (held := self._held.get(domain)) and domain not in self._locked:
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


def _number(operation: Operation) -> int:
    return operation.number
