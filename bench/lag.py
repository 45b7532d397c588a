"""How long after a write began its listeners were told, beside a unary call on the same server."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import grpc.aio

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .listeners import Arrival
from .operations import VALUE_BYTES

ROUND_TRIPS = 200
# Below the thousand calls over which gRPC's server cancels some (grpc.server_max_pending_requests).
UNANSWERED = 500
_Number = TypeVar("_Number", int, float)


class Writes(NamedTuple):
    """Writes that were made: how many a second, and when each was acknowledged, by when it began."""

    rate: float
    acknowledged: dict[int, int]


@dataclass
class Lag:
    """Of one run, all in nanoseconds but `rate`, the writes a second that were made.

    `begun` counts from when the write was sent, `acknowledged` from its answer, which may come later than
    the change. `round_trip` is the median of unary calls before and after the run.
    """

    rate: float
    begun: list[int]
    acknowledged: list[int]
    round_trip: float

    def multiple(self, percent: int) -> float:
        """Returns a percentile of the lag by the round trip."""
        return percentile(self.begun, percent) / self.round_trip


def percentile(numbers: Iterable[_Number], percent: int) -> _Number:
    ranked = sorted(numbers)
    return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)]


class Writer:
    """Writes through the generated stubs. To be made and used in one event loop."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = storage_pb2_grpc.StorageServiceStub(self._channel)
        self._number = 0

    async def close(self) -> None:
        await self._channel.close()

    async def write(self, domain: str) -> Arrival:
        """Writes the time to a new key; returns when it began, and when it was acknowledged."""
        self._number += 1
        begun = time.monotonic_ns()
        # Spaces make the number as long as the values of the other figures; it is the same JSON.
        value = pb.Value(json=str(begun).ljust(VALUE_BYTES))
        await self._stub.SetValue(pb.SetValueRequest(domain=domain, key=f"{self._number:08d}", value=value))
        return begun, time.monotonic_ns()

    async def steadily(self, domains: Iterable[str], rate: float) -> Writes:
        """Writes to one domain after the other, though up to UNANSWERED writes wait for their answers."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(UNANSWERED)
        tasks = []
        began = loop.time()
        for number, domain in enumerate(domains):
            await asyncio.sleep(began + number / rate - loop.time())
            await room.acquire()
            tasks.append(asyncio.create_task(self.write(domain)))
            tasks[-1].add_done_callback(lambda _: room.release())
        times = dict(await asyncio.gather(*tasks))
        return Writes(len(tasks) / (loop.time() - began), times)

    async def at_most(self, domain: str, calls: int, *, callers: int) -> float:
        """Returns how many writes a second so many concurrent callers get done."""
        numbers = iter(range(calls))

        async def call() -> None:
            for _ in numbers:
                await self.write(domain)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return calls / (time.perf_counter() - began)

    async def round_trips(self) -> list[int]:
        """Returns the nanoseconds of unary calls, one after the other."""
        times = []
        for _ in range(ROUND_TRIPS):
            began = time.monotonic_ns()
            await self._stub.GetValue(pb.GetValueRequest(domain="bench.first", key="k"))
            times.append(time.monotonic_ns() - began)
        return times
