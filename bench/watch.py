"""What the Watch stream costs: many watchers, many domains, one who does not read, and the way to a dict."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import process
from .backends import Proxy, Served, one
from .lag import Lag, Writer, percentile
from .listeners import Dicts, Watchers

CALLERS = 16
# Beside one who does not read.
BESIDE = 20


@dataclass(frozen=True)
class Size:
    """How much is measured: `seconds` of writing in each run, at the rates a second."""

    watchers: int = 500
    watcher_rates: tuple[int, ...] = (10, 50, 100)
    domains: int = 5_000
    rates: tuple[int, ...] = (100, 1_000)
    seconds: float = 5.0
    idle_seconds: float = 5.0
    rounds: int = 5
    calls: int = 3_000


QUICK = Size(
    watchers=20,
    watcher_rates=(20,),
    domains=50,
    rates=(100,),
    seconds=0.5,
    idle_seconds=0.5,
    rounds=1,
    calls=100,
)


@dataclass
class Run:
    """A lag, and how long the server had a processor for each delivery, with its share of the write."""

    title: str
    backend: str
    lag: Lag
    processor_seconds: float


Pair = tuple[list[float], list[float]]


@dataclass
class Stuck:
    """By round, while one reads and while he does not: writes a second, and ms of the others' lag."""

    rates: Pair = field(default_factory=lambda: ([], []))
    p50: Pair = field(default_factory=lambda: ([], []))
    p99: Pair = field(default_factory=lambda: ([], []))


@dataclass
class Results:
    """What was measured. `facts` are titles with figures in words."""

    size: Size
    runs: list[Run] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    stuck: Stuck = field(default_factory=Stuck)


def collect(size: Size, progress: Callable[[str], None]) -> Results:
    """Starts servers and listeners, measures, and stops them."""
    results = Results(size)
    for measure in (_watchers, _domains, _stuck, _dicts):
        progress(f"watch:{measure.__name__.replace('_', ' ')}")
        measure(results)
    return results


class Bench:
    """One server, and a writer in an event loop of this process."""

    def __init__(self, backend: str, served: Served, runner: asyncio.Runner) -> None:
        self.backend = backend
        self.address = served.address
        self.pid = served.process.pid
        self.run = runner.run
        self.writer = runner.run(self._writer())
        # So that what comes once has come.
        runner.run(self.writer.round_trips())

    async def _writer(self) -> Writer:
        return Writer(self.address)

    def memory(self) -> int:
        return process.resident(self.pid)

    def steadily(
        self,
        title: str,
        size: Size,
        domains: list[str],
        rate: float,
        listener: Watchers | Dicts,
        each: int = 1,
    ) -> Run:
        """Writes to the domains in turn; `each` listeners are told of a change."""
        writes = [domains[number % len(domains)] for number in range(int(rate * size.seconds))]
        round_trips = self.run(self.writer.round_trips())
        before = process.processor_seconds(self.pid)
        rate, acknowledged = self.run(self.writer.steadily(writes, rate))
        arrivals = listener.arrivals(len(writes) * each)
        used = process.processor_seconds(self.pid) - before
        round_trips += self.run(self.writer.round_trips())
        lag = Lag(
            rate,
            [told - begun for begun, told in arrivals],
            [told - acknowledged[begun] for begun, told in arrivals],
            statistics.median(round_trips),
        )
        return Run(title, self.backend, lag, used / len(arrivals))


def _idle(pid: int, seconds: float) -> float:
    """Returns the share of one processor that the process takes while nothing is written."""
    before = process.processor_seconds(pid)
    time.sleep(seconds)
    return (process.processor_seconds(pid) - before) / seconds


def _kib(grown: int, count: int) -> str:
    return f"{grown / count / 1024:.1f} KiB"


@contextlib.contextmanager
def bench_of(backend: str) -> Iterator[Bench]:
    """Gives a server of this backend, and its writer."""
    with one(backend) as served, asyncio.Runner() as runner:
        bench = Bench(backend, served, runner)
        yield bench
        runner.run(bench.writer.close())


def _watchers(results: Results) -> None:
    """Many streams, each of one domain that is the same for all."""
    size = results.size
    many = f"{size.watchers:,}"
    with bench_of("memory") as bench, Watchers(bench.address) as watchers:
        watchers.subscribe([["bench.warm"]])
        before = bench.memory()
        watchers.subscribe([["bench.shared"]] * size.watchers)
        results.facts += [
            (
                f"server's memory for each of {many} watchers of a domain",
                _kib(bench.memory() - before, size.watchers),
            ),
            (
                f"server's processor for {many} idle watchers",
                f"{_idle(bench.pid, size.idle_seconds):.1%} of a core",
            ),
        ]
        for rate in size.watcher_rates:
            title = f"{many} watchers of a domain"
            run = bench.steadily(title, size, ["bench.shared"], rate, watchers, size.watchers)
            results.runs.append(run)
        results.facts.append(
            (
                "server's processor for each delivery, at the highest rate",
                f"{run.processor_seconds * 1e6:.0f} microseconds",
            )
        )


def _domains(results: Results) -> None:
    """One stream of many domains, which a client's partial dicts listen to."""
    size = results.size
    domains = [f"bench.domain_{number:05d}" for number in range(size.domains)]
    many = f"{size.domains:,}"
    title = f"{many} domains on a stream"
    with bench_of("memory") as bench:
        with Dicts(bench.address) as dicts:
            # The stream, and whatever else comes once.
            dicts.open(["bench.warm"], load=False)
            before = bench.memory()
            seconds, grown = dicts.open(domains, load=False)
            results.facts += [
                (
                    f"server's memory for each of {many} subscriptions of a stream",
                    _kib(bench.memory() - before, size.domains),
                ),
                ("client's memory for each, with an empty dict", _kib(grown, size.domains)),
                (f"{many} dicts made one after the other, until all are fresh", f"{seconds:.1f} s"),
                (
                    f"server's processor for {many} idle domains",
                    f"{_idle(bench.pid, size.idle_seconds):.1%} of a core",
                ),
                (
                    f"client's processor for {many} idle dicts",
                    f"{_idle(dicts.pid, size.idle_seconds):.1%} of a core",
                ),
            ]
            dicts.observe()
            results.runs += [bench.steadily(title, size, domains, rate, dicts) for rate in size.rates]
        with Proxy(bench.address) as network, Dicts(network.address) as dicts:
            dicts.open(domains, load=False)
            times = []
            for _ in range(max(3, size.rounds)):
                dicts.expect_loss()
                cut = time.monotonic_ns()
                network.cut()
                times.append((dicts.recovered() - cut) / 1e9)
            results.facts.append(
                (
                    f"until all {many} are fresh after the connection was cut, through a proxy",
                    f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})",
                )
            )


def _stuck(results: Results) -> None:
    """Watchers that read, and one that is stopped or not, turn by turn."""
    size, stuck = results.size, results.stuck
    domain = "bench.shared"
    with bench_of("memory") as bench, Watchers(bench.address) as watchers, Watchers(bench.address) as other:
        watchers.subscribe([[domain]] * BESIDE)
        other.subscribe([[domain]])
        for number in range(-1, size.rounds):  # the first is to warm up
            for stopped in (False, True) if number % 2 else (True, False):
                if stopped:
                    other.stop()
                # At first, so that by the steady writes nothing more fits into the buffers of its socket.
                rate = bench.run(bench.writer.at_most(domain, size.calls, callers=CALLERS))
                watchers.arrivals(size.calls * BESIDE)
                run = bench.steadily("", size, [domain], size.rates[0], watchers, BESIDE)
                other.go_on()
                other.arrivals(len(run.lag.begun) // BESIDE + size.calls)
                if number >= 0:
                    stuck.rates[stopped].append(rate)
                    stuck.p50[stopped].append(percentile(run.lag.begun, 50) / 1e6)
                    stuck.p99[stopped].append(percentile(run.lag.begun, 99) / 1e6)


def _dicts(results: Results) -> None:
    """From a write in one process to a dict in another."""
    size = results.size
    for backend in ("memory", "sqlite"):
        with bench_of(backend) as bench, Dicts(bench.address) as dicts:
            dicts.open(["bench.mirror"], load=True)
            dicts.observe()
            results.runs += [
                bench.steadily("a mirror in another process", size, ["bench.mirror"], rate, dicts)
                for rate in size.rates
            ]
