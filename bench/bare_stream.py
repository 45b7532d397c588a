"""A client of `Execute` with hardly anything to it: what gRPC, protobuf and asyncio take of an operation."""

import asyncio
import contextlib
import itertools
from typing import Any

import grpc
import grpc.aio

from neardict import values
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .operations import DOMAIN, VALUE, key


class BareStream:
    """Operations on one stream, each with a message and a future, and nothing else.

    No deadline, no error, no retry, no bound of what is under way, no size, and no value is decoded.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._call = storage_pb2_grpc.StorageServiceStub(self._channel).Execute()
        self._value = values.encode(VALUE)
        self._numbers = itertools.count(1)
        self._unsent: list[pb.Operation] = []
        self._unanswered: dict[int, asyncio.Future[pb.OperationResult]] = {}
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    async def get(self, number: int) -> Any:
        """Looks a key up."""
        request = pb.GetValueRequest(domain=DOMAIN, key=key(number))
        return await self._operate(pb.Operation(number=next(self._numbers), get_value=request))

    async def set(self, number: int) -> Any:
        """Writes a key."""
        request = pb.SetValueRequest(domain=DOMAIN, key=key(number), value=self._value)
        return await self._operate(pb.Operation(number=next(self._numbers), set_value=request))

    async def close(self) -> None:
        """Ends the stream."""
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._channel.close()

    async def _operate(self, operation: pb.Operation) -> Any:
        future = self._unanswered[operation.number] = asyncio.get_running_loop().create_future()
        self._unsent.append(operation)
        self._news.set()
        return await future

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            operations, self._unsent = self._unsent, []
            await self._call.write(pb.ExecuteRequest(operations=operations))

    async def _read(self) -> None:
        response: Any
        while (response := await self._call.read()) is not grpc.aio.EOF:
            for result in response.results:
                self._unanswered.pop(result.number).set_result(result)
