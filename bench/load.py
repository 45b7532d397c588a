"""Closed loops: each caller makes its next call when the answer to the last one is there."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def lasting(seconds: float, start: int = 0, step: int = 1) -> Iterator[int]:
    """Yields numbers until so much time has passed."""
    end = time.perf_counter() + seconds
    for number in itertools.count(start, step):
        if time.perf_counter() >= end:
            return
        yield number


async def run_async(call: AsyncCall, numbers: Iterable[int], *, callers: int) -> Sample:
    """Makes a call of each number, by so many concurrent callers. Raises what a call raises."""
    shared = iter(numbers)
    sample = Sample(0.0)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(_caller(call, shared, sample.latencies))
    sample.seconds = time.perf_counter() - began
    return sample


def run_sync(call: Callable[[int], Any], numbers: Iterable[int]) -> Sample:
    """Makes a call of each number, one after the other, in this thread."""
    sample = Sample(0.0)
    began = time.perf_counter()
    for number in numbers:
        before = time.perf_counter_ns()
        call(number)
        sample.latencies.append(time.perf_counter_ns() - before)
    sample.seconds = time.perf_counter() - began
    return sample


def run_threads(call: Callable[[int], Any], seconds: float, *, threads: int) -> Sample:
    """Makes calls in so many threads for so long, of numbers that are different in each."""
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        samples = list(
            pool.map(lambda first: run_sync(call, lasting(seconds, first, threads)), range(threads))
        )
        taken = time.perf_counter() - began
    return Sample(taken, [latency for sample in samples for latency in sample.latencies])


async def _caller(call: AsyncCall, numbers: Iterator[int], latencies: list[int]) -> None:
    for number in numbers:
        before = time.perf_counter_ns()
        await call(number)
        latencies.append(time.perf_counter_ns() - before)
