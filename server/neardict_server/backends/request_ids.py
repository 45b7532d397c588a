"""Makes retried writes safe on backends that do not remember request ids themselves."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from ..errors import InvalidRequestError
from . import base, batches

# For how long a request id is remembered: far longer than any client keeps retrying one call.
WINDOW = 60_000_000  # microseconds
# At most so many are remembered, the latest, which bounds the memory under a flood of writes.
MAX_REMEMBERED = 262_144
# And of so many bytes, since keys may be long.
MAX_REMEMBERED_BYTES = 64 * 1024 * 1024
# What one takes beside its texts, about.
_OVERHEAD = 200

_Result = TypeVar("_Result")
# A domain and a request id.
_Identity = tuple[str, str]
_Write = base.Set | base.Delete
# A key, and what its write returned: revision, expires, and for a deletion whether the entry existed. Of
# nothing but texts and numbers: the garbage collector looks at such tuples once, and not again and again.
_Done = tuple[str, int, int | None, bool | None]


def parts_of(request_id: str) -> tuple[str, str]:
    """Returns what the id begins with, and its last character: clients count, so that many begin alike."""
    return request_id[:-1], request_id[-1:]


def reused(request_id: str) -> InvalidRequestError:
    """Returns the error for a request id that an earlier write used for another key or operation."""
    return InvalidRequestError(
        f"request_id {request_id!r} was used by another write of this domain: use a fresh random UUID",
        reason="REQUEST_ID_REUSED",
    )


class _Run:
    """Operations that are under way together. `outcomes` are there when `over` is done."""

    __slots__ = ("identities", "operations", "outcomes", "over")

    def __init__(self) -> None:
        self.operations: list[base.Operation] = []
        # Of each of them; None without a request id.
        self.identities: list[_Identity | None] = []
        self.outcomes: list[base.Outcome] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Remembered(NamedTuple):
    when: int
    identities: list[_Identity]
    size: int  # in bytes, about


class RequestIds:
    """A backend around a backend, that answers a repeated write with the first one's result.

    Invariant: of the writes of one (domain, request_id), at most one succeeds on the inner backend
    within WINDOW. A repeat that arrives while the first is under way waits for it. What is called with
    request ids runs in a task of its own, so that a caller who gives up does not lose the result for his
    retry. A failed write is not remembered: repeating it tries again.
    """

    def __init__(self, inner: base.Backend, clock: base.Clock = base.wall_clock) -> None:
        self._inner = inner
        self._clock = clock
        self.capabilities = inner.capabilities
        self._running: dict[_Identity, tuple[_Run, int]] = {}  # and which of its operations
        self._done: dict[_Identity, _Done] = {}
        # What is in there, in the order in which it was remembered.
        self._order: deque[_Remembered] = deque()
        self._bytes = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"RequestIds({self._inner!r})"

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        return await self._inner.get_value(domain, key)

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: base.Ttl = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        if not request_id:
            return await self._inner.set_value(domain, key, value, ttl=ttl, condition=condition)
        write = base.Set(key, value, ttl, condition, request_id)
        return cast("base.Written", await self._one(domain, write))

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        if not request_id:
            return await self._inner.delete_key(domain, key, condition=condition)
        return cast("base.Deleted", await self._one(domain, base.Delete(key, condition, request_id)))

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> Sequence[base.Outcome]:
        if any(not isinstance(operation, base.Get) and operation.request_id for operation in operations):
            return await self._in_a_task(self._all(domain, operations))
        return await batches.execute(self._inner, domain, operations)

    def all_keys(self, domain: str, *, prefix: str = "", entries: bool = False) -> AsyncIterator[base.Page]:
        return self._inner.all_keys(domain, prefix=prefix, entries=entries)

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inner.close()

    async def _one(self, domain: str, write: _Write) -> base.Outcome:
        (outcome,) = await self._in_a_task(self._all(domain, [write]))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _in_a_task(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Returns what the work returned. It goes on if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[_Result] = loop.create_future()
        self._tasks.add(loop.create_task(self._work(work, told)))
        return await told

    async def _work(self, work: Coroutine[Any, Any, _Result], told: asyncio.Future[_Result]) -> None:
        # Done by hand, since asyncio.shield goes round the loop once more.
        try:
            result = await work
            if not told.done():
                told.set_result(result)
        except Exception as error:
            if not told.done():
                told.set_exception(error)
        finally:
            told.cancel()  # if this is cancelled, as the loop ends
            self._tasks.discard(cast("asyncio.Task[Any]", asyncio.current_task()))

    async def _all(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        self._forget(self._clock())
        outcomes: list[base.Outcome] = []
        while len(outcomes) < len(operations):
            outcomes += await self._some(domain, operations[len(outcomes) :] if outcomes else operations)
        return outcomes

    async def _some(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        """Carries out the first operations, up to one that depends on what becomes of another."""
        run = _Run()
        known: dict[int, base.Outcome] = {}
        for index, operation in enumerate(operations):
            identity = None
            if not isinstance(operation, base.Get) and operation.request_id:
                identity = (domain, operation.request_id)
                if done := self._done.get(identity):
                    known[index] = again(operation, *done)
                    continue
                if running := self._running.get(identity):
                    if index == 0:
                        return [await _repeated(operation, *running)]
                    break
                self._running[identity] = (run, len(run.operations))
            run.operations.append(operation)
            run.identities.append(identity)
        if run.operations:
            await self._run(domain, run)
        if not known:
            return run.outcomes
        outcomes = iter(run.outcomes)
        total = len(known) + len(run.outcomes)
        return [known[index] if index in known else next(outcomes) for index in range(total)]

    async def _run(self, domain: str, run: _Run) -> None:
        """Carries out what is registered as running, and remembers what succeeded."""
        succeeded: list[_Identity] = []
        size = 0
        try:
            run.outcomes = await self._carry_out(domain, run.operations)
            for operation, identity, outcome in zip(
                run.operations, run.identities, run.outcomes, strict=True
            ):
                if identity is None:
                    continue
                if isinstance(outcome, base.Written):
                    self._done[identity] = (operation.key, outcome.revision, outcome.expires, None)
                elif isinstance(outcome, base.Deleted):
                    self._done[identity] = (operation.key, outcome.revision, None, outcome.existed)
                else:
                    continue
                succeeded.append(identity)
                size += _OVERHEAD + len(operation.key) + len(identity[1])
            run.over.set_result(None)
        finally:
            for identity in run.identities:
                if identity is not None:
                    del self._running[identity]
            if succeeded:
                self._order.append(_Remembered(self._clock(), succeeded, size))
                self._bytes += size
            # If it has not come to an end, nor will those who wait for it.
            run.over.cancel()

    async def _carry_out(self, domain: str, operations: list[base.Operation]) -> list[base.Outcome]:
        try:
            if len(operations) > 1:
                return list(await batches.execute(self._inner, domain, operations))
            return await batches.one_by_one(self._inner, domain, operations)
        except Exception as error:
            return [error] * len(operations)

    def _forget(self, now: int) -> None:
        while self._order:
            oldest = self._order[0]
            if (
                oldest.when + WINDOW > now
                and len(self._done) < MAX_REMEMBERED
                and self._bytes < MAX_REMEMBERED_BYTES
            ):
                return
            self._bytes -= oldest.size
            for identity in self._order.popleft().identities:
                del self._done[identity]


async def _repeated(write: _Write, run: _Run, place: int) -> base.Outcome:
    """Returns the outcome of the write that is under way, if this one is the same."""
    first = run.operations[place]
    if type(first) is not type(write) or first.key != write.key:
        return reused(write.request_id)
    # Others wait for it too.
    await asyncio.shield(run.over)
    return run.outcomes[place]


def again(
    write: base.Set | base.Delete, key: str, revision: int, expires: int | None, existed: bool | None
) -> base.Outcome:
    """Returns the result of an earlier write with the id, if this one is the same."""
    if key != write.key or (existed is None) != isinstance(write, base.Set):
        return reused(write.request_id)
    return base.Written(revision, expires) if existed is None else base.Deleted(bool(existed), revision)
