"""The synchronous client: many threads, and one, beside bare calls of grpcio."""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import neardict

from .. import echo, load
from ..backends import one
from ..filling import fill
from ..floors import Floor, Row, median_rate, median_time
from ..operations import DOMAIN, SyncEcho, key
from ..turns import Take, take_turns
from .size import Size

THREADS = 16

_Calls = tuple[Callable[[int], Any], Callable[[int], Any]]


def many(size: Size) -> list[Row]:
    """Rates of 16 threads that share a store, or a channel."""

    def rate(call: Callable[[int], Any]) -> Take:
        return lambda: load.run_threads(call, size.seconds, threads=THREADS).rate

    with _calls() as (get, call):
        turns = take_turns(rate(get), rate(call), size.rounds)
    return [
        Row(
            "sync_gets",
            f"gets on memory, sync, {THREADS} threads",
            median_rate(turns.ours),
            f"bare grpcio echo: {median_rate(turns.peer)}",
            turns.ratios,
            Floor(2.5),
        )
    ]


def alone(size: Size) -> list[Row]:
    """Median latencies of one thread that waits for each answer."""

    def latency(call: Callable[[int], Any]) -> Take:
        return lambda: statistics.median(load.run_sync(call, load.lasting(size.seconds)).latencies)

    with _calls() as (get, call):
        turns = take_turns(latency(get), latency(call), size.rounds)
    return [
        Row(
            "sync_latency",
            "uncached get on memory, sync, 1 thread, latency",
            median_time(turns.ours),
            f"bare grpcio call: {median_time(turns.peer)}",
            turns.ratios,
            Floor(1.15, most=True),
        )
    ]


@contextlib.contextmanager
def _calls() -> Iterator[_Calls]:
    """Gives our get and the echo's call."""
    with (
        one("memory") as served,
        echo.running() as address,
        neardict.connect(served.address) as store,
        contextlib.closing(SyncEcho(address)) as peer,
    ):
        fill(served.address)
        yield (lambda number: store.get_value(DOMAIN, key(number))), peer.call
