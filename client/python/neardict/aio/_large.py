"""Reads and writes, for asyncio, values that do not fit in a message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _chunks
from .._statuses import too_late
from ..errors import DataLossError, LimitExceededError, UnavailableError
from ..v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractContextManager

_Answer = TypeVar("_Answer")


class Large:
    """Does in chunks what cannot be done in messages, as `neardict._large` does."""

    def __init__(
        self, target: str, stub: Any, translated: Callable[[], AbstractContextManager[None]], timeout: float
    ) -> None:
        self._target = target
        self._stub = stub
        self._translated = translated
        self._timeout = timeout

    async def get_value(
        self,
        request: pb.GetValueRequest,
        timeout: float | None,
        in_message: Callable[[], Awaitable[pb.GetValueResponse]],
    ) -> pb.GetValueResponse:
        """Returns the answer of `in_message`, or, if the value is too large for that, of ReadValue."""
        try:
            return await in_message()
        except LimitExceededError as error:
            if not _chunks.needs_chunks(error):
                raise
        return await self.read(request, timeout)

    async def set_value(
        self,
        request: pb.SetValueRequest,
        timeout: float | None,
        in_message: Callable[[], Awaitable[pb.SetValueResponse]],
    ) -> pb.SetValueResponse:
        """Returns the answer of `in_message`, or, if the value is too large for that, of WriteValue."""
        if not _chunks.is_large(request):
            try:
                return await in_message()
            except LimitExceededError as error:
                if not _chunks.needs_chunks(error):
                    raise
        return await self._write(request, timeout)

    async def read(self, request: pb.GetValueRequest, timeout: float | None) -> pb.GetValueResponse:
        """Calls ReadValue. Without a timeout each part may take as long as another call."""
        left = _chunks.Time(timeout, float("inf"))
        wanted = pb.ReadValueRequest(domain=request.domain, key=request.key)

        async def attempt() -> pb.GetValueResponse:
            incoming = _chunks.Incoming()
            with self._translated():
                call = self._stub.ReadValue(wanted, timeout=None if timeout is None else left.left())
                parts = aiter(call)
                try:
                    while True:
                        async with asyncio.timeout(self._timeout if timeout is None else None):
                            incoming.add(await anext(parts))
                except StopAsyncIteration:
                    pass
                except TimeoutError:
                    raise too_late(self._target) from None
                finally:
                    call.cancel()
            return incoming.answer()

        return await _retried(attempt, left)

    async def pages(
        self, request: pb.AllKeysRequest, pages: AsyncGenerator[pb.AllKeysResponse, None]
    ) -> AsyncGenerator[pb.AllKeysResponse, None]:
        """Yields the pages, and then what they name as too large for them, in pages like theirs."""
        large_keys: list[str] = []
        revision = 0
        async for page in pages:
            large_keys += page.large_keys
            revision = page.domain_revision
            yield page
        # Only now, so that the service need not hold the listing all the while.
        for key in large_keys:
            try:
                answer = await self.read(pb.GetValueRequest(domain=request.domain, key=key), None)
            except DataLossError:
                yield pb.AllKeysResponse(domain_revision=revision, unreadable_keys=[key])
                continue
            if answer.found:
                yield pb.AllKeysResponse(domain_revision=revision, entries=[answer.entry])

    async def _write(self, request: pb.SetValueRequest, timeout: float | None) -> pb.SetValueResponse:
        outgoing = _chunks.Outgoing(request)
        left = _chunks.Time(timeout, self._timeout, outgoing.size)

        async def attempt() -> pb.SetValueResponse:
            with self._translated():
                call = self._stub.WriteValue(outgoing.parts(), timeout=left.left())
                response: pb.SetValueResponse = await call
                return response

        return await _retried(attempt, left)


async def _retried(attempt: Callable[[], Awaitable[_Answer]], left: _chunks.Time) -> _Answer:
    for pause in left.pauses():
        try:
            return await attempt()
        except UnavailableError:
            await asyncio.sleep(pause)
    return await attempt()
