"""Counts and times what a backend is asked."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import grpc

from ..backends import base, batches
from ..edge import code_of
from .codes import code_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import prometheus_client

_NAMES: dict[type[base.Operation], str] = {
    base.Get: "GetValue",
    base.Set: "SetValue",
    base.Delete: "DeleteKey",
}
_OK = code_name(grpc.StatusCode.OK)
# Nobody waits for it any more; it may have taken effect.
_CANCELED = code_name(grpc.StatusCode.CANCELLED)
_Result = TypeVar("_Result")


class MeteredBackend:
    """Decorates a backend: `operations` counts what it did, with the status, `seconds` how long it took."""

    def __init__(
        self,
        name: str,
        inner: base.Backend,
        operations: prometheus_client.Counter,
        seconds: prometheus_client.Histogram,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._name = name
        self._inner = inner
        self._operations = operations
        self._seconds = seconds
        self._clock = clock
        self.capabilities = inner.capabilities

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        return await self._one(base.Get, self._inner.get_value(domain, key))

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
        return await self._one(
            base.Set,
            self._inner.set_value(domain, key, value, ttl=ttl, condition=condition, request_id=request_id),
        )

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        return await self._one(
            base.Delete, self._inner.delete_key(domain, key, condition=condition, request_id=request_id)
        )

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> Sequence[base.Outcome]:
        codes = [_CANCELED] * len(operations)
        began = self._clock()
        try:
            outcomes = await batches.execute(self._inner, domain, operations)
            # Whoever asked fails them all, if they are not as many.
            if len(outcomes) == len(operations):
                codes = [_code(outcome) for outcome in outcomes]
            return outcomes
        except Exception as error:
            codes = [_code(error)] * len(operations)
            raise
        finally:
            self._seconds.labels(self._name, "Execute").observe(self._clock() - began)
            names = [_NAMES[type(operation)] for operation in operations]
            for (name, code), number in Counter(zip(names, codes, strict=True)).items():
                self._operations.labels(self._name, name, code).inc(number)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        code = _CANCELED
        listing = self._inner.all_keys(domain, prefix=prefix, entries=entries)
        try:
            async with aclosing(listing) as pages:  # type: ignore[type-var]  # backends yield from generators
                async for page in pages:
                    yield page
            code = _OK
        except Exception as error:
            code = _code(error)
            raise
        finally:
            # Not timed: it lasts as long as its client reads.
            self._operations.labels(self._name, "AllKeys", code).inc()

    async def close(self) -> None:
        await self._inner.close()

    async def _one(self, kind: type[base.Operation], work: Awaitable[_Result]) -> _Result:
        code = _CANCELED
        began = self._clock()
        try:
            result = await work
            code = _OK
            return result
        except Exception as error:
            code = _code(error)
            raise
        finally:
            name = _NAMES[kind]
            self._seconds.labels(self._name, name).observe(self._clock() - began)
            self._operations.labels(self._name, name, code).inc()


def _code(outcome: base.Outcome) -> str:
    return code_name(code_of(outcome)) if isinstance(outcome, Exception) else _OK
