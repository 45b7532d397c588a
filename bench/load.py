"""Closed loops: each caller makes its next call when the answer to the last one is there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

AsyncCall = Callable[[int], Awaitable[Any]]


@dataclass
class Sample:
    """What one run of a loop took: seconds in all, and nanoseconds for each call."""

    seconds: float
    latencies: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Calls in a second."""
        return len(self.latencies) / self.seconds


async def run_async(call: AsyncCall, calls: int, *, callers: int) -> Sample:
    """Makes `call(0)` to `call(calls - 1)`, by so many concurrent callers. Raises what a call raises."""
    numbers = iter(range(calls))
    sample = Sample(0.0)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(_caller(call, numbers, sample.latencies))
    sample.seconds = time.perf_counter() - began
    return sample


def run_sync(call: Callable[[int], Any], calls: int) -> Sample:
    """Makes the calls one after the other, in this thread."""
    sample = Sample(0.0)
    began = time.perf_counter()
    for number in range(calls):
        before = time.perf_counter_ns()
        call(number)
        sample.latencies.append(time.perf_counter_ns() - before)
    sample.seconds = time.perf_counter() - began
    return sample


async def _caller(call: AsyncCall, numbers: Iterator[int], latencies: list[int]) -> None:
    for number in numbers:
        before = time.perf_counter_ns()
        await call(number)
        latencies.append(time.perf_counter_ns() - before)
