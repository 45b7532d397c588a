"""An Execute stream as the generated stubs have it, with nothing of neardict's own client."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import gc
import itertools
from typing import TYPE_CHECKING, Any, Self

import grpc.aio

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.execution import executions
from neardict_server.execution.lane import Lane
from wire import DEADLINE_SECONDS, Refusal, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable


def get(key: str, *, domain: str = "d", timeout: int = 0) -> pb.Operation:
    request = pb.GetValueRequest(domain=domain, key=key)
    return pb.Operation(get_value=request, timeout_milliseconds=timeout)


def put(
    key: str, value: str | bytes = "1", *, domain: str = "d", timeout: int = 0, **more: Any
) -> pb.Operation:
    message = pb.Value(json=value) if isinstance(value, str) else pb.Value(raw=value)
    request = pb.SetValueRequest(domain=domain, key=key, value=message, **more)
    return pb.Operation(set_value=request, timeout_milliseconds=timeout)


def delete(key: str, *, domain: str = "d", timeout: int = 0, **more: Any) -> pb.Operation:
    request = pb.DeleteKeyRequest(domain=domain, key=key, **more)
    return pb.Operation(delete_key=request, timeout_milliseconds=timeout)


class Execution:
    """One stream. Numbers operations from 1 and collects results; what takes too long fails. A context."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        self.call = stub.Execute()
        self.results: dict[int, pb.OperationResult] = {}
        # Numbers, as their results came.
        self.order: list[int] = []
        self._numbers = itertools.count(1)
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.call.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing.cancelled() or self._writing.exception()

    def number(self, operations: Iterable[pb.Operation]) -> tuple[list[int], pb.ExecuteRequest]:
        """Gives each operation a number, and returns the numbers with the request."""
        request = pb.ExecuteRequest(operations=operations)
        for operation in request.operations:
            operation.number = next(self._numbers)
        return [operation.number for operation in request.operations], request

    async def send(self, *operations: pb.Operation, cancel: Iterable[int] = ()) -> list[int]:
        """Sends one request and returns the numbers of its operations."""
        numbers, request = self.number(operations)
        request.cancelled_numbers.extend(cancel)
        assert await self.write(request, DEADLINE_SECONDS), "the service does not read"
        return numbers

    async def write(self, request: pb.ExecuteRequest, seconds: float) -> bool:
        """Returns whether the request is on its way within that time; if not, it goes later."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=seconds)
            if not self._writing.done():
                return False
        # Not cancelled when the time is over, which would end the stream.
        self._writing = asyncio.ensure_future(self.call.write(request))
        await asyncio.wait([self._writing], timeout=seconds)
        if not self._writing.done():
            return False
        self._writing.result()
        return True

    async def of(self, numbers: list[int]) -> list[pb.OperationResult]:
        """Returns the results of these operations, in this order, as soon as all have come."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            for number in numbers:
                while number not in self.results:
                    assert await self._more(), "the stream ended before all results had come"
        return [self.results[number] for number in numbers]

    async def run(self, *operations: pb.Operation) -> list[pb.OperationResult]:
        """Sends the operations and returns their results."""
        return await self.of(await self.send(*operations))

    async def end(self) -> Refusal | None:
        """Ends the client's side and reads on: returns the stream's own failure, None for OK."""
        async with asyncio.TaskGroup() as tasks:
            # Results must be read meanwhile, or else what is still being sent would never be.
            tasks.create_task(self._done_writing())
            ended = tasks.create_task(self.ended())
        return ended.result()

    async def _done_writing(self) -> None:
        if self._writing is not None:
            await self._writing
        await self.call.done_writing()

    async def ended(self) -> Refusal | None:
        """Reads on until the stream has ended."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await self._more():
                    pass
        except grpc.aio.AioRpcError as error:
            return refusal(error)
        return None

    async def _more(self) -> bool:
        response = await self.call.read()
        if response is grpc.aio.EOF:
            if await self.call.code() != grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    await self.call.code(),
                    await self.call.initial_metadata(),
                    await self.call.trailing_metadata(),
                    await self.call.details(),
                )
            return False
        for result in response.results:
            assert result.number not in self.results, "a second result"
            self.results[result.number] = result
            self.order.append(result.number)
        return True


def failure(result: pb.OperationResult) -> Refusal:
    """Returns what a result says that is an error, in the words of a failed call."""
    assert result.WhichOneof("result") == "error", result
    code = next(code for code in grpc.StatusCode if code.value[0] == result.error.code)
    # gRPC's own statuses, which a call has from its client, have no ErrorInfo.
    domain = "neardict" if result.error.reason else ""
    return Refusal(code, result.error.message, domain, result.error.reason, dict(result.error.metadata))


def open_streams() -> list[executions._Stream]:
    """Returns what this process serves on the running loop: no garbage of tests before, which had others."""
    loop = asyncio.get_running_loop()
    streams = [one for one in gc.get_objects() if isinstance(one, executions._Stream)]
    return [stream for stream in streams if stream._reader.get_loop() is loop]


def open_lanes() -> list[Lane]:
    """Returns those of the running loop that are not garbage."""
    gc.collect()
    loop = asyncio.get_running_loop()
    return [one for one in gc.get_objects() if isinstance(one, Lane) and one.task.get_loop() is loop]
