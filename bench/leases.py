"""What linearizable dicts cost: a hit that looks at the clock, and writes that wait for who holds leases."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import neardict

from . import hit
from .backends import Served, one
from .operations import DOMAIN, KEYS, VALUE, key

BACKEND = "memory"
LEASED = "leased"

# A process with a dict of a domain, which it holds until its input ends.
HOLDER = """
import sys, neardict
d = neardict.connect(sys.argv[1]).dict(sys.argv[2], consistency="linearizable")
print(len(d), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Size:
    """How much is measured: `writes` by each of `rounds`, for so many holders; and the hits."""

    holders: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 7
    writes: int = 200
    repeats: int = 100
    look_ups: int = 50_000


QUICK = Size(holders=(2,), rounds=1, writes=20, repeats=10, look_ups=10_000)


@dataclass
class Writes:
    """Milliseconds of one write after the other: without leases, and with, round by round."""

    holders: int
    free: list[list[float]] = field(default_factory=list)
    leased: list[list[float]] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Of the medians of each round."""
        return [
            statistics.median(leased) / statistics.median(free)
            for free, leased in zip(self.free, self.leased, strict=True)
        ]


@dataclass
class Results:
    """`killed` is how many seconds a write waited for a holder that was killed just before."""

    writes: list[Writes] = field(default_factory=list)
    hits: list[hit.Hit] = field(default_factory=list)
    killed: float = 0.0


def collect(size: Size, progress: Callable[[str], None]) -> Results:
    """Starts a server and holders, measures, and stops them."""
    results = Results()
    with one(BACKEND) as served, neardict.connect(served.address) as store:
        for count in size.holders:
            progress(f"leases: {count} holders")
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(holding(served))
                results.writes.append(_writes(store, count, size))
        progress("leases: a holder that is killed")
        with holding(served) as process:
            process.kill()
            results.killed = _write(store, LEASED) / 1000
        progress("leases: hits")
        store.set_many(DOMAIN, {key(number): VALUE for number in range(KEYS)})
        results.hits = hit.measure(
            served.address, repeats=size.repeats, look_ups=size.look_ups, consistency="linearizable"
        )
    return results


def _writes(store: neardict.Store, holders: int, size: Size) -> Writes:
    writes = Writes(holders)
    for _ in range(size.rounds):
        writes.free.append([_write(store, "free") for _ in range(size.writes)])
        writes.leased.append([_write(store, LEASED) for _ in range(size.writes)])
    return writes


def _write(store: neardict.Store, domain: str) -> float:
    begin = time.perf_counter()
    store.set_value(domain, "k", VALUE)
    return (time.perf_counter() - begin) * 1000


@contextlib.contextmanager
def holding(served: Served) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a lease."""
    command = [sys.executable, "-c", HOLDER, served.address, LEASED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
