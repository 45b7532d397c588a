"""What an operation costs by how many keys its domain has, on each backend that is meant for many."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from neardict import aio

from .. import growth, load
from ..backends import one
from ..clients import opened
from ..filling import write
from ..floors import Floor, Row, median_time
from ..sweeps.series import Series, Sweep
from ..turns import Take, Turns, take_turns
from .size import Size

BACKENDS = ("memory", "sqlite", "redis")
OPERATIONS = ("get", "set")
TASKS = 64
# A prime above any number of keys: its multiples go through them all, in no order that a backend could use.
_STRIDE = 2_000_003


@dataclass
class Costs:
    """Of one backend and operation: turns with the fewest keys, by number of keys."""

    backend: str
    operation: str
    turns: dict[int, Turns] = field(default_factory=dict)


class _Client:
    """Gets and sets of any key of domains with so many keys."""

    def __init__(self, address: str) -> None:
        self._store = aio.connect(address)

    def call(self, operation: str, keys: int) -> Callable[[int], Awaitable[Any]]:
        """Returns what asks for the next key each time, whatever the number of the call, run after run."""
        domain = _domain(keys)
        numbers = (number * _STRIDE % keys for number in itertools.count())

        def get(_: int) -> Awaitable[Any]:
            return self._store.get_value(domain, growth.key(next(numbers)))

        def set_(_: int) -> Awaitable[Any]:
            number = next(numbers)
            return self._store.set_value(domain, growth.key(number), growth.value(number))

        return get if operation == "get" else set_

    async def close(self) -> None:
        await self._store.close()


def measure(size: Size) -> list[Costs]:
    """Returns the costs of each backend and operation, for all numbers of keys but the least."""
    costs = []
    few, *more = size.keys
    for backend in BACKENDS:
        with one(backend) as served, asyncio.Runner() as runner:
            for keys in size.keys:
                write(served.address, _domain(keys), growth.small(keys))
            with opened(runner, lambda: _Client(served.address)) as client:
                for operation in OPERATIONS:
                    each = Costs(backend, operation)
                    peer = _rate(runner, client.call(operation, few), size)
                    for keys in more:
                        ours = _rate(runner, client.call(operation, keys), size)
                        each.turns[keys] = take_turns(ours, peer, size.key_rounds)
                    costs.append(each)
    return costs


def rows(costs: list[Costs], few: int) -> list[Row]:
    """Returns the rows for the most keys against the fewest."""
    rows = []
    for each in costs:
        keys = max(each.turns)
        turns = each.turns[keys]
        rows.append(
            Row(
                f"keys_{each.backend}_{each.operation}",
                f"cost of a {each.operation} on {each.backend} at {keys:,} keys",
                _cost(turns.ours),
                f"at {few:,}: {_cost(turns.peer)}",
                turns.inverse,
                Floor(1.3, most=True),
            )
        )
    return rows


def sweep(costs: list[Costs], few: int) -> Sweep:
    """Returns the same for all numbers of keys."""
    lines = []
    for each in costs:
        line = Series(f"{each.operation} on {each.backend}")
        line.points[f"{few:,}"] = [1e6 / rate for turns in each.turns.values() for rate in turns.peer]
        for keys, turns in each.turns.items():
            line.points[f"{keys:,}"] = [1e6 / rate for rate in turns.ours]
        lines.append(line)
    title = f"Cost of an operation by keys of the domain, {TASKS} tasks"
    return Sweep("keys", title, "keys", "microseconds", lines)


def _domain(keys: int) -> str:
    return f"bench.keys_{keys}"


def _cost(rates: list[float]) -> str:
    return median_time([1e9 / rate for rate in rates])


def _rate(runner: asyncio.Runner, call: load.AsyncCall, size: Size) -> Take:
    return lambda: runner.run(load.run_async(call, load.lasting(size.key_seconds), callers=TASKS)).rate
