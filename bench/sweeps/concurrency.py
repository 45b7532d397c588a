"""Single gets by how many tasks of one client make them: how many a second, and how long each takes."""

import asyncio
from contextlib import ExitStack
from functools import partial

from .. import echo, load
from ..backends import RedisServer, one
from ..clients import AsyncNear, opened
from ..filling import fill
from ..lag import percentile
from ..operations import AsyncEcho
from ..peers import redis
from .series import Series, Sweep
from .size import Size

PERCENTS = (1, 10, 25, 50, 75, 90, 95, 99)


def measure(size: Size) -> list[Sweep]:
    """Returns the rates by concurrency, and percentiles of the latency for the least and for many tasks."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        redis.fill(server)
        runner = stack.enter_context(asyncio.Runner())
        calls: dict[str, load.AsyncCall] = {}
        for backend in ("memory", "redis"):
            served = stack.enter_context(one(backend, server))
            fill(served.address)
            near = stack.enter_context(opened(runner, partial(AsyncNear, served.address)))
            calls[f"neardict on {backend}"] = near.get
        address = stack.enter_context(echo.running())
        calls["bare grpcio echo"] = stack.enter_context(opened(runner, lambda: AsyncEcho(address))).call
        calls["redis.asyncio"] = stack.enter_context(opened(runner, lambda: redis.AsyncRedis(server))).get
        return _measure(size, runner, calls)


def _measure(size: Size, runner: asyncio.Runner, calls: dict[str, load.AsyncCall]) -> list[Sweep]:
    rates = {title: Series(title) for title in calls}
    latencies: dict[tuple[str, int], list[int]] = {}
    for number in range(-1, size.rounds):  # the first is to warm up
        for tasks in size.tasks:
            for title, call in calls.items():
                sample = runner.run(load.run_async(call, load.lasting(size.seconds), callers=tasks))
                if number >= 0:
                    rates[title].note(f"{tasks:,}", sample.rate)
                    latencies.setdefault((title, tasks), []).extend(sample.latencies)
    sweeps = [
        Sweep("concurrency", "Gets by concurrent tasks", "tasks", "gets/s", list(rates.values())),
    ]
    for tasks in size.latency_tasks:
        lines = [
            Series(
                title,
                {
                    f"p{percent:g}": [percentile(latencies[title, tasks], percent) / 1e6]
                    for percent in PERCENTS
                },
            )
            for title in calls
        ]
        words = "1 task" if tasks == 1 else f"{tasks} concurrent tasks"
        sweeps.append(Sweep(f"latency-{tasks}", f"Latency of a get, {words}", "percentile", "ms", lines))
    return sweeps
