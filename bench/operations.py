"""The four operations as calls by number, through the generated stubs and through the Store.

Every client has the same `calls`: an operation's name -> a function of the number of the call. Numbers
up to KEYS meet different keys, so that a deletion finds its key.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

import neardict
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from . import echo

if TYPE_CHECKING:
    from .load import AsyncCall

DOMAIN = "bench.values"
KEYS = 1000
VALUE_BYTES = 256
# In this order each finds all keys present; after the last, `fill` must bring back those that it deleted.
OPERATIONS = ("GetValue", "SetValue", "AllKeys", "DeleteKey")

VALUE = {"points": 3, "text": ""}
VALUE["text"] = "x" * (VALUE_BYTES - len(json.dumps(VALUE, separators=(",", ":"))))
TEXT = json.dumps(VALUE, separators=(",", ":"))


def key(number: int) -> str:
    return f"player-{number % KEYS:06d}"


def _set_request(number: int) -> pb.SetValueRequest:
    # With a request_id, as our clients send each write.
    return pb.SetValueRequest(
        domain=DOMAIN, key=key(number), value=pb.Value(json=TEXT), request_id=uuid.uuid4().hex
    )


# What the echo is sent: as long as the longest of our messages, but for listings.
PAYLOAD = _set_request(0).SerializeToString()


class AsyncEcho:
    """The echo through grpc.aio."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._method: Any = self._channel.unary_unary(echo.METHOD)

    def call(self, number: int) -> Awaitable[bytes]:
        return self.send(PAYLOAD)

    def send(self, data: bytes) -> Awaitable[bytes]:
        answer: Awaitable[bytes] = self._method(data)
        return answer

    async def close(self) -> None:
        await self._channel.close()


class SyncEcho:
    """The echo through the synchronous grpcio."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._method: Any = self._channel.unary_unary(echo.METHOD)

    def call(self, number: int) -> bytes:
        answer: bytes = self._method(PAYLOAD)
        return answer

    def close(self) -> None:
        self._channel.close()


class Stubs:
    """The operations through the generated stubs and grpc.aio, with gRPC's default options."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = storage_pb2_grpc.StorageServiceStub(self._channel)
        self.calls: dict[str, AsyncCall] = {
            "GetValue": lambda number: self._stub.GetValue(
                pb.GetValueRequest(domain=DOMAIN, key=key(number))
            ),
            "SetValue": lambda number: self._stub.SetValue(_set_request(number)),
            "AllKeys": self._list,
            "DeleteKey": lambda number: self._stub.DeleteKey(
                pb.DeleteKeyRequest(domain=DOMAIN, key=key(number), request_id=uuid.uuid4().hex)
            ),
        }

    async def fill(self, keys: int = KEYS) -> None:
        """Writes the first so many keys, some at a time."""
        for first in range(0, keys, 100):
            numbers = range(first, min(keys, first + 100))
            await asyncio.gather(*(self.calls["SetValue"](number) for number in numbers))

    async def check(self, *, keeps: bool) -> None:
        """Raises AssertionError unless the operations answer as those of a backend that keeps, or not, do."""
        found = (await self.calls["GetValue"](0)).found
        existed = (await self.calls["DeleteKey"](1)).existed
        await self.calls["SetValue"](1)
        listed = await self._list(0)
        if (found, existed, listed) != (keeps, keeps, KEYS if keeps else 0):
            raise AssertionError(f"wrong answers: found={found}, existed={existed}, {listed} keys listed")

    async def close(self) -> None:
        await self._channel.close()

    async def _list(self, number: int) -> int:
        count = 0
        async for page in self._stub.AllKeys(pb.AllKeysRequest(domain=DOMAIN)):
            count += len(page.keys)
        return count


class SyncStore:
    """The operations through `neardict.Store`: values encoded and decoded, deadlines, retries."""

    def __init__(self, address: str) -> None:
        self._store = neardict.connect(address)
        self.calls: dict[str, Callable[[int], Any]] = {
            "GetValue": lambda number: self._store.get_entry(DOMAIN, key(number)),
            "SetValue": lambda number: self._store.set_value(DOMAIN, key(number), VALUE),
            "AllKeys": lambda number: list(self._store.all_keys(DOMAIN)),
            "DeleteKey": lambda number: self._store.delete_key(DOMAIN, key(number)),
        }

    def close(self) -> None:
        self._store.close()
