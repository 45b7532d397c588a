"""Brings servers, clients and measurements together."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import compare, echo, hit, load
from .backends import served
from .compare import Figure, Row, Way
from .hit import Hit
from .operations import AsyncEcho, Stubs, SyncEcho, SyncStore

CONCURRENT = 64


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    # Calls, and listings, of one run: by many callers, and by one.
    many: tuple[int, int]
    one: tuple[int, int]
    # Of the hits: how often, and how many look-ups each time.
    repeats: int
    look_ups: int


@dataclass
class Results:
    """What was measured; `failures` holds the reason for each backend that was not."""

    figures: dict[Row, Figure] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def collect(names: Iterable[str], size: Size, progress: Callable[[str], None]) -> Results:
    """Starts the servers, measures, and stops them."""
    progress("starting the servers")
    with contextlib.ExitStack() as stack:
        echo_address = stack.enter_context(echo.running())
        addresses, failures = stack.enter_context(served(names))
        results = Results(failures=failures)
        runner = stack.enter_context(asyncio.Runner())
        stubs = runner.run(_connected(addresses))
        for name in addresses:
            try:
                runner.run(_prepare(name, stubs[name]))
            except Exception as error:  # whatever it is, it tells of this backend alone
                failures[name] = f"{type(error).__name__}: {error}"
                del stubs[name]
        stores = {name: stack.enter_context(contextlib.closing(SyncStore(addresses[name]))) for name in stubs}
        sync_echo = stack.enter_context(contextlib.closing(SyncEcho(echo_address)))
        async_echo = runner.run(_async_echo(echo_address))
        runner.run(load.run_async(async_echo.call, range(CONCURRENT), callers=CONCURRENT))  # warms it up

        def asynchronous(title: str, callers: int, counts: tuple[int, int]) -> Way:
            def run(call: load.AsyncCall, calls: int) -> load.Sample:
                return runner.run(load.run_async(call, range(calls), callers=callers))

            return Way(title, *counts, run, async_echo.call, {name: stubs[name].calls for name in stubs})

        ways = [
            asynchronous(f"Stubs and grpc.aio, {CONCURRENT} concurrent callers", CONCURRENT, size.many),
            asynchronous("Stubs and grpc.aio, 1 caller", 1, size.one),
            Way(
                "`neardict.Store`, 1 thread",
                *size.one,
                lambda call, calls: load.run_sync(call, range(calls)),
                sync_echo.call,
                {name: stores[name].calls for name in stores},
            ),
        ]
        results.figures = compare.measure(
            ways,
            rounds=size.rounds,
            fill=lambda name, keys: runner.run(stubs[name].fill(keys)),
            progress=progress,
        )
        keeper = next((name for name in stubs if name != "null"), None)
        if keeper is not None:
            progress("hits")
            results.hits = hit.measure(addresses[keeper], repeats=size.repeats, look_ups=size.look_ups)
        runner.run(_close(async_echo, *stubs.values()))
        return results


async def _connected(addresses: dict[str, str]) -> dict[str, Stubs]:
    # Channels of grpc.aio belong to the loop that they are made in.
    return {name: Stubs(address) for name, address in addresses.items()}


async def _async_echo(address: str) -> AsyncEcho:
    return AsyncEcho(address)


async def _prepare(name: str, stubs: Stubs) -> None:
    """Sees to it that each operation does its work, which also warms the server up."""
    await stubs.fill()
    await stubs.check(keeps=name != "null")


async def _close(*clients: AsyncEcho | Stubs) -> None:
    for client in clients:
        await client.close()
