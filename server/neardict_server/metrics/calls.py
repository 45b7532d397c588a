"""Counts and times the calls of our own services."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import Counter, Gauge, Histogram


# How go-grpc-middleware calls the shapes of handlers.
_TYPES = {
    "unary_unary": "unary",
    "unary_stream": "server_stream",
    "stream_unary": "client_stream",
    "stream_stream": "bidi_stream",
}
_OK = grpc.StatusCode.OK.name
# Of a call that ended without a status: its client has gone, or its time was over.
_CANCELLED = grpc.StatusCode.CANCELLED.name


class Calls:
    """Wraps the handlers of a service."""

    def __init__(
        self,
        started: Counter,
        handled: Counter,
        seconds: Histogram,
        under_way: Gauge,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._started = started
        self._handled = handled
        self._seconds = seconds
        self._under_way = under_way
        self._clock = clock

    def around(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns the handler with its calls counted and timed. `method` is /SERVICE/METHOD."""
        _, service, name = method.split("/")
        shape = next(shape for shape in _TYPES if getattr(handler, shape))
        labels = (_TYPES[shape], service, name)
        started = self._started.labels(*labels)
        under_way = self._under_way.labels(name)
        seconds = None if shape == "stream_stream" else self._seconds.labels(*labels)
        call = getattr(handler, shape)

        def begin() -> float:
            started.inc()
            under_way.inc()
            return self._clock()

        def end(began: float, code: str) -> None:
            under_way.dec()
            self._handled.labels(*labels, code).inc()
            if seconds is not None:
                seconds.observe(self._clock() - began)

        async def unary(data: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began, code = begin(), _CANCELLED
            try:
                response = await call(data, context)
                code = _OK
                return response
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            finally:
                end(began, code)

        async def stream(data: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            began, code = begin(), _CANCELLED
            try:
                async with aclosing(call(data, context)) as responses:
                    async for response in responses:
                        yield response
                code = _OK
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            finally:
                end(began, code)

        wrapped: grpc.RpcMethodHandler[Any, Any] = handler._replace(
            **{shape: stream if handler.response_streaming else unary}
        )
        return wrapped
