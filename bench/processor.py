"""What of a processor an operation takes, on either side: `python -m bench.processor`.

By how many travel in a message: with few tasks its own cost stands out. Beside it a client
with hardly anything to it, which is about as far as ours could get without anything of its own.
"""

import asyncio
import contextlib
import functools
import statistics

from . import load
from .backends import one
from .bare_stream import BareStream
from .clients import AsyncNear, opened
from .filling import fill
from .process import processor_seconds

TASKS = (1, 64, 512)
CALLS = 20_000
ROUNDS = 3


def measure(call: load.AsyncCall, server: int, runner: asyncio.Runner, tasks: int) -> str:
    """Returns a row: microseconds of a processor here and at the server, and calls a second; medians."""
    rounds: list[tuple[float, float, float]] = []
    # The operating system counts hundredths of a second.
    calls = max(2000, CALLS * tasks // 64)
    for _ in range(ROUNDS):
        here, there = processor_seconds(), processor_seconds(server)
        rate = runner.run(load.run_async(call, range(calls), callers=tasks)).rate
        rounds.append((processor_seconds() - here, processor_seconds(server) - there, rate))
    client, service, rate = (statistics.median(column) for column in zip(*rounds, strict=True))
    return f"{client / calls * 1e6:.1f} | {service / calls * 1e6:.1f} | {rate:,.0f} |"


def main() -> None:
    """Prints a table."""
    print("| operation | tasks | client, us | service, us | calls/s |")
    print("|---|---:|---:|---:|---:|")
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        for backend in ("memory", "sqlite"):
            server = stack.enter_context(one(backend))
            fill(server.address)
            near = stack.enter_context(opened(runner, functools.partial(AsyncNear, server.address)))
            bare = stack.enter_context(opened(runner, functools.partial(BareStream, server.address)))
            for name, call in (
                ("get", near.get),
                ("get, bare stream", bare.get),
                ("set", near.set),
                ("set, bare stream", bare.set),
            ):
                for tasks in TASKS:
                    row = measure(call, server.process.pid, runner, tasks)
                    print(f"| {name}, {backend} | {tasks} | {row}", flush=True)


if __name__ == "__main__":
    main()
