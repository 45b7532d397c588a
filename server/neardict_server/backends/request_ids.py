"""Makes retried writes safe on backends that do not remember request ids themselves."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, TypeVar, cast

from ..errors import InvalidRequestError
from . import base

# For how long a request id is remembered: far longer than any client keeps retrying one call.
WINDOW = 60_000_000  # microseconds
# At most so many are remembered, the latest, which bounds the memory under a flood of writes.
MAX_REMEMBERED = 262_144

_Result = TypeVar("_Result", base.Written, base.Deleted)


def reused(request_id: str) -> InvalidRequestError:
    """Returns the error for a request id that an earlier write used for another key or operation."""
    return InvalidRequestError(
        f"request_id {request_id!r} was used by another write of this domain: use a fresh random UUID",
        reason="REQUEST_ID_REUSED",
    )


class _Write(NamedTuple):
    when: int
    what: tuple[str, str]
    result: object


class RequestIds:
    """A backend around a backend, that answers a repeated write with the first one's result.

    Invariant: of the writes of one (domain, request_id), at most one succeeds on the inner backend
    within WINDOW. A repeat that arrives while the first is under way waits for it. The first runs in a
    task of its own, so that a caller who gives up does not lose the result for his retry. A failed
    write is not remembered: repeating it tries again.
    """

    def __init__(self, inner: base.Backend, clock: base.Clock = base.wall_clock) -> None:
        self._inner = inner
        self._clock = clock
        self.capabilities = inner.capabilities
        # Both by (domain, request_id).
        self._running: dict[tuple[str, str], tuple[tuple[str, str], asyncio.Task[object]]] = {}
        self._done: OrderedDict[tuple[str, str], _Write] = OrderedDict()  # oldest first

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
        ttl: int | None = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        def write() -> Awaitable[base.Written]:
            return self._inner.set_value(domain, key, value, ttl=ttl, condition=condition)

        return await self._once(domain, request_id, ("set", key), write)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        def delete() -> Awaitable[base.Deleted]:
            return self._inner.delete_key(domain, key, condition=condition)

        return await self._once(domain, request_id, ("delete", key), delete)

    def all_keys(self, domain: str, *, prefix: str = "", entries: bool = False) -> AsyncIterator[base.Page]:
        return self._inner.all_keys(domain, prefix=prefix, entries=entries)

    async def close(self) -> None:
        await asyncio.gather(*(task for _, task in self._running.values()), return_exceptions=True)
        await self._inner.close()

    async def _once(
        self, domain: str, request_id: str, what: tuple[str, str], write: Callable[[], Awaitable[_Result]]
    ) -> _Result:
        if not request_id:
            return await write()
        self._forget(self._clock())
        identity = (domain, request_id)
        if done := self._done.get(identity):
            _check_same(what, done.what, request_id)
            return cast("_Result", done.result)
        if running := self._running.get(identity):
            running_what, task = running
            _check_same(what, running_what, request_id)
        else:
            task = asyncio.ensure_future(self._run(identity, what, write))
            # Retrieves the exception, in case the caller has gone.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._running[identity] = (what, task)
        return cast("_Result", await asyncio.shield(task))

    async def _run(
        self, identity: tuple[str, str], what: tuple[str, str], write: Callable[[], Awaitable[object]]
    ) -> object:
        try:
            result = await write()
            self._done[identity] = _Write(self._clock(), what, result)
            return result
        finally:
            del self._running[identity]

    def _forget(self, now: int) -> None:
        while self._done:
            identity, oldest = next(iter(self._done.items()))
            if oldest.when + WINDOW > now and len(self._done) < MAX_REMEMBERED:
                return
            del self._done[identity]


def _check_same(what: tuple[str, str], earlier: tuple[str, str], request_id: str) -> None:
    if what != earlier:
        raise reused(request_id)
