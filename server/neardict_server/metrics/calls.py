"""Counts and times the calls of our own services."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from .codes import code_name

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

        def end(began: float, code: grpc.StatusCode) -> None:
            self._handled.labels(*labels, code_name(code)).inc()
            under_way.dec()
            if seconds is not None:
                seconds.observe(self._clock() - began)

        async def unary(data: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began, code = begin(), None
            try:
                response = await call(data, context)
                code = grpc.StatusCode.OK
                return response
            except grpc.aio.AbortError:
                code = context.code()
                raise
            finally:
                end(began, code or _given_up(context))

        async def stream(data: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            began, code = begin(), None
            try:
                async with aclosing(call(data, context)) as responses:
                    async for response in responses:
                        yield response
                code = grpc.StatusCode.OK
            except grpc.aio.AbortError:
                code = context.code()
                raise
            finally:
                end(began, code or _given_up(context))

        wrapped: grpc.RpcMethodHandler[Any, Any] = handler._replace(
            **{shape: stream if handler.response_streaming else unary}
        )
        return wrapped


# The client began to count before this side did, and then ends the call before its time is over here.
_EARLY_SECONDS = 0.1


def _given_up(context: grpc.aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    """Returns the status of a call that ended without one: its client has gone, or its time was over."""
    left = context.time_remaining()
    over = left is not None and left <= _EARLY_SECONDS
    return grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED
