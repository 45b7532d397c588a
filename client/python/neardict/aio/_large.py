"""Reads and writes, for asyncio, values that do not fit in a message."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc

from .. import _chunks, _compression, _replies
from .._pages import Page, Pages
from .._retries import Attempts
from .._statuses import to_error, too_late
from ..errors import (
    BulkError,
    ClosedError,
    DataLossError,
    DeadlineExceededError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from ..v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

_Answer = TypeVar("_Answer")

_INLINE_BYTES = 128 * 1024


class Retried(Protocol):
    """As neardict._retries.Retried."""

    async def __call__(self, attempts: Attempts, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer: ...


class Large:
    """Does in chunks what cannot be done in messages, as `neardict._large` does."""

    def __init__(
        self,
        target: str,
        stub: Any,
        describe: Callable[[float], Awaitable[pb.GetServerInfoResponse]],
        translated: Callable[[], AbstractContextManager[None]],
        retried: Retried,
        seconds: Callable[[float | None], float],
        *,
        compress: bool,
    ) -> None:
        self._target = target
        self._stub = stub
        self._describe = describe
        self._translated = translated
        self._retried = retried
        self._seconds = seconds
        self._compress = compress
        # How values may be compressed that are answered.
        self.accepted = pb.COMPRESSION_ZSTD if compress else pb.COMPRESSION_UNSPECIFIED
        # Whether the service understands what is compressed; None until it has been asked.
        self._understood: bool | None = None
        self._bounds = _replies.Bounds()

    async def set_value(
        self,
        request: pb.SetValueRequest,
        timeout: float | None,
        in_message: Callable[[pb.SetValueRequest, float], Awaitable[pb.SetValueResponse]],
    ) -> pb.SetValueResponse | pb.WriteValueResponse:
        """Returns the answer of `in_message`, or, if the value is too large for that, of WriteValue.

        `in_message` is given what is to be sent, and the seconds that it may take.
        """
        left = Attempts(self._seconds(timeout))
        if not _chunks.is_large(request):
            try:
                return await in_message(await self.wire(request, left.left()), left.left())
            except LimitExceededError as error:
                if not _chunks.needs_chunks(error):
                    raise
        return await self._write(request, None if timeout is None else left.left())

    def accept(self, request: pb.GetValueRequest | pb.ReadValueRequest | pb.AllKeysRequest) -> None:
        """Tells the service in a request how the answer may be compressed."""
        if self.accepted:
            request.accept = self.accepted

    async def wire(self, request: pb.SetValueRequest, seconds: float) -> pb.SetValueRequest:
        """Returns what is to be sent of a write that fits in a message, within these seconds."""
        if not self._compress or not _compression.pays(request.ByteSize()):
            return request
        if not await self._compresses(seconds):
            return request
        smaller = pb.SetValueRequest()
        smaller.CopyFrom(request)
        smaller.value.CopyFrom(await _aside(request.value))
        return smaller

    async def read(self, request: pb.GetValueRequest, timeout: float | None) -> pb.GetValueResponse:
        """Calls ReadValue. Without a timeout each part may take as long as another call."""
        left = Attempts(self._seconds(timeout), since_failure=timeout is None)
        wanted = pb.ReadValueRequest(domain=request.domain, key=request.key)
        self.accept(wanted)

        async def attempt() -> pb.GetValueResponse:
            incoming = _chunks.Incoming(self._target, request.key, self.accepted)
            with self._translated():
                call = self._stub.ReadValue(wanted, timeout=None if timeout is None else left.left())
                parts = aiter(call)
                try:
                    while True:
                        async with asyncio.timeout(self._seconds(None) if timeout is None else None):
                            part = await anext(parts)
                        self._stub.hear()
                        incoming.add(part)
                        within = self._seconds(None) if timeout is None else left.left()
                        await self._hold(self._bounds.value_problem, incoming.size(), within)
                except StopAsyncIteration:
                    pass
                except TimeoutError as error:
                    if isinstance(error, NeardictError):
                        raise
                    raise too_late(self._target) from None
                finally:
                    call.cancel()
            return incoming.answer()

        return await self._retried(left, attempt)

    async def pages(
        self,
        request: pb.AllKeysRequest,
        listing: Pages,
        pages: AsyncGenerator[pb.AllKeysResponse, None],
        timeout: float | None,
    ) -> AsyncGenerator[Page, None]:
        """Yields the pages, and then what they name as too large for them, in pages like theirs.

        With a timeout all of it may take so long; without, each part may take as long as another call.
        """
        left = Attempts(self._seconds(timeout))
        large_keys: list[str] = []
        revision = 0
        async with aclosing(pages):
            async for message in pages:
                page = listing.read(message)
                if request.accept:
                    await self.hold(page.values, self._seconds(None) if timeout is None else left.left())
                large_keys += page.large_keys
                revision = page.domain_revision
                yield page
        # Only now, so that the service need not hold the listing all the while.
        # Each once, also if the listing had to begin again.
        for key in dict.fromkeys(large_keys):
            try:
                wanted = pb.GetValueRequest(domain=request.domain, key=key)
                answer = await self.read(wanted, None if timeout is None else left.left())
            except (DataLossError, _replies.TooLargeError):
                yield Page(revision, unreadable_keys=[key])
                continue
            if answer.found:
                yield Page(revision, entries=[answer.entry])

    async def hold(self, values: Iterable[pb.Value], seconds: float) -> None:
        """Raises TooLargeError if what came compressed in one message is more than a message may hold.

        To ask the service about it may take so many seconds.
        """
        await self._hold(self._bounds.message_problem, _replies.content_size(values), seconds)

    async def _hold(self, problem: Callable[[int], str], size: int, seconds: float) -> None:
        """Raises TooLargeError if the size is a problem, by what the service says now of its limits."""
        if problem(size):
            try:
                info = await self._info(seconds)
            except (UnavailableError, DeadlineExceededError, ClosedError):
                raise  # they say nothing of its limits
            except NeardictError:
                self._bounds.learn(None)
            else:
                self._bounds.learn(info.limits)
            if what := problem(size):
                raise _replies.TooLargeError(f"protocol error: {self._target} {what}")

    async def _compresses(self, seconds: float) -> bool:
        if self._compress and self._understood is None:
            self._understood = pb.COMPRESSION_ZSTD in (await self._info(seconds)).compressions
        return self._compress and bool(self._understood)

    async def _info(self, seconds: float) -> pb.GetServerInfoResponse:
        left = Attempts(seconds)
        return await self._retried(left, lambda: self._describe(left.left()))

    async def _write(self, request: pb.SetValueRequest, timeout: float | None) -> pb.WriteValueResponse:
        left = Attempts(self._seconds(timeout))
        compress = await self._compresses(left.left())
        outgoing = await asyncio.to_thread(_chunks.Outgoing, request, compress=compress)
        if timeout is None:
            left = _chunks.upload(self._seconds(None), outgoing.size)

        async def parts() -> AsyncGenerator[pb.WriteValueRequest, None]:
            messages = outgoing.parts(left.sent)
            yield next(messages)
            # Or else a refusal meets a chunk on its way out, and grpc.aio reports that in place of it.
            if ("upload", "welcome") not in [*await call.initial_metadata()]:
                await call.code()
                return
            for part in messages:
                yield part

        call: Any = None

        async def attempt() -> pb.WriteValueResponse:
            nonlocal call
            with self._translated():
                call = self._stub.WriteValue(parts(), timeout=left.left())
                try:
                    response: pb.WriteValueResponse | None = await call
                except grpc.RpcError as error:
                    # So grpc.aio reports a connection that breaks under a chunk; the service gives a reason.
                    if error.code() is grpc.StatusCode.INTERNAL and not to_error(error, self._target).reason:
                        raise UnavailableError("the connection broke in an upload: write it again") from None
                    raise
                self._stub.hear()
                return _replies.checked(response, _replies.written_problem, self._target)

        return await self._retried(left, attempt)


async def each(
    requests: Mapping[str, Any],
    answers: dict[str, _Answer],
    in_messages: Callable[[Mapping[str, Any]], Awaitable[Any]],
    in_chunks: Callable[[str], Awaitable[_Answer]],
) -> dict[str, _Answer]:
    """Makes all calls, as `neardict._chunks.each` does."""
    small, failures = _chunks.small(requests), _chunks.Failures(requests)
    try:
        await in_messages(small)
    except BulkError as error:
        failures.take(error)
    for key in failures.left(small):
        try:
            answers[key] = await in_chunks(key)
        except NeardictError as error:
            failures.add(key, error)
    failures.check()
    return answers


async def _aside(value: pb.Value) -> pb.Value:
    # What is larger takes more than a millisecond, in which the loop may do something else.
    if value.ByteSize() <= _INLINE_BYTES:
        return _compression.compressed(value)
    return await asyncio.to_thread(_compression.compressed, value)
