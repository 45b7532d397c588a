"""The one place where errors become gRPC statuses.

Around each handler: requests are parsed inside it, so that bytes which are no message are the caller's
mistake, and whatever a handler raises leaves as a clean status with google.rpc details. No interceptor,
for which grpc.aio looks anew with each call.
"""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from . import errors
from .messages import to_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    # Takes /SERVICE/METHOD and its handler.
    _Wrap = Callable[[str, Any], grpc.RpcMethodHandler[Any, Any]]

logger = logging.getLogger(__name__)

ERROR_DOMAIN = "neardict"

STATUS_OF: dict[type[errors.StorageError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ValueTooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ValueNeedsChunksError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UploadStalledError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ConditionFailedError: grpc.StatusCode.ABORTED,
    errors.NoRouteError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CapabilityMissingError: grpc.StatusCode.UNIMPLEMENTED,
    errors.StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CorruptEntryError: grpc.StatusCode.DATA_LOSS,
    errors.TooManyLeasesError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooMuchInFlightError: grpc.StatusCode.UNAVAILABLE,
    errors.BackendUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    # A kind that a backend of another distribution made up.
    errors.StorageError: grpc.StatusCode.INTERNAL,
}


class Edge:
    """Wraps the handlers of our own services; health and reflection are not behind it."""

    def __init__(self) -> None:
        self._draining = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._latest = 0.0

    async def drain(self, seconds: float, *, notice: float = 0.0) -> None:
        """Refuses calls from now on; returns when none is under way, after `seconds` at the latest.

        If calls were made lately, those that follow are told for `notice` seconds that the service drains.
        One that is on its way when gRPC stops ends as CANCELLED, which says nothing and is not retried.
        """
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
                await asyncio.sleep(self._latest + notice - time.monotonic())
        except TimeoutError:
            if self._under_way:
                logger.warning("%d calls are still under way after %g seconds", self._under_way, seconds)

    def before(self, server: grpc.aio.Server, around: _Wrap) -> grpc.aio.Server:
        """Returns what a service is to be added to, in place of the server, so that it is behind the edge.

        `around` wraps what the edge made of a handler, and so meets statuses rather than errors.
        """

        def wrap(method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
            return around(method, self._wrap(method, handler))

        return _Guarded(server, wrap)  # type: ignore[return-value]  # what generated code asks of it

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        parse = handler.request_deserializer
        if answer := handler.unary_unary:

            async def unary(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
                try:
                    self._begin(context)
                    answering = answer(parse(data), context)
                    # While the handler waits, nobody here holds what came: it may be large.
                    del data
                    return await answering
                except Exception as error:
                    await _abort(context, method, error)

            return grpc.unary_unary_rpc_method_handler(unary, None, handler.response_serializer)
        if handler.unary_stream:

            async def stream(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                try:
                    self._begin(context)
                    # Or else a call that is cancelled leaves the inner generator to the garbage collector.
                    async with aclosing(handler.unary_stream(parse(data), context)) as responses:
                        async for response in responses:
                            yield response
                except Exception as error:
                    await _abort(context, method, error)

            return grpc.unary_stream_rpc_method_handler(stream, None, handler.response_serializer)
        if handler.stream_unary:

            async def gather(data: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
                try:
                    self._begin(context)
                    return await handler.stream_unary((parse(item) async for item in data), context)
                except Exception as error:
                    await _abort(context, method, error)

            return grpc.stream_unary_rpc_method_handler(gather, None, handler.response_serializer)
        if handler.stream_stream:

            async def both(
                data: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
            ) -> AsyncIterator[Any]:
                try:
                    self._begin(context)
                    requests = (parse(item) async for item in data)
                    async with aclosing(handler.stream_stream(requests, context)) as responses:
                        async for response in responses:
                            yield response
                except Exception as error:
                    await _abort(context, method, error)

            return grpc.stream_stream_rpc_method_handler(both, None, handler.response_serializer)
        raise AssertionError(f"{method} has a shape that the edge does not know")

    def _begin(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self._draining:
            raise errors.DrainingError("the service is shutting down and did nothing: retry later")
        self._under_way += 1
        self._idle.clear()
        self._latest = time.monotonic()
        # Called when the reply has gone out too, and however the call ends.
        context.add_done_callback(self._end)  # type: ignore[arg-type]  # types-grpcio has no Protocol there

    def _end(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()


class _Guarded:
    """Takes the place of a server for generated code that adds a service to it."""

    def __init__(self, server: grpc.aio.Server, wrap: _Wrap) -> None:
        self._server = server
        self._wrap = wrap

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: they come by name too, in which form they can be wrapped."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the service to the server, with each method wrapped."""
        wrapped = {name: self._wrap(f"/{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


async def _abort(context: grpc.aio.ServicerContext[Any, Any], method: str, error: Exception) -> NoReturn:
    code, message, reason, metadata = describe(method, error)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata)
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(info)
    if isinstance(error, errors.StorageError) and error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo(retry_delay=to_duration(error.retry_seconds))
        status.details.add().Pack(retry)
    await context.abort(
        code, message, trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()),)
    )


def code_of(error: Exception) -> grpc.StatusCode:
    """Returns the status code for an error."""
    if isinstance(error, errors.StorageError):
        return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
    return grpc.StatusCode.INVALID_ARGUMENT if isinstance(error, DecodeError) else grpc.StatusCode.INTERNAL


def describe(method: str, error: Exception) -> tuple[grpc.StatusCode, str, str, dict[str, str]]:
    """Returns the status code, message, reason and metadata for an error that `method` raised."""
    if isinstance(error, errors.StorageError):
        return code_of(error), str(error), error.reason, error.metadata
    if isinstance(error, DecodeError):
        message = (
            "the request is not a valid message of the contract: text must be UTF-8, and the stubs "
            "generated from its .proto"
        )
        return code_of(error), message, "INVALID_REQUEST", {}
    if isinstance(error, grpc.aio.AbortError):
        raise error
    # Type and place only: the text of an unforeseen error may quote a value.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    logger.error("%s failed unexpectedly: %s at %s", method, type(error).__name__, where)
    return code_of(error), "the service failed; its log tells where", "INTERNAL", {}
