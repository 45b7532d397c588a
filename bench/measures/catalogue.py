"""All measures, in the order of the page; what cannot be taken leaves its reason in its place."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..floors import MissingPeerError, Row, Unmeasured
from . import concurrent, direct, hits, keys, lag, loading, serving, threads
from .size import Size


@dataclass(frozen=True)
class Measure:
    """`title` stands for its rows where they could not be measured."""

    title: str
    take: Callable[[Size], list[Row]]


@dataclass
class Results:
    """The rows by kind of measure, and the costs by number of keys, of which some rows are."""

    floors: list[Row | Unmeasured] = field(default_factory=list)
    others: list[Row | Unmeasured] = field(default_factory=list)
    costs: list[keys.Costs] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        return [row for row in (*self.floors, *self.others) if isinstance(row, Row)]

    @property
    def unmeasured(self) -> list[Unmeasured]:
        return [row for row in (*self.floors, *self.others) if isinstance(row, Unmeasured)]


HIT = Measure("`d[k]` hit, against a plain dict", hits.plain)
ASYNC = Measure("gets on memory, async, 64 tasks", concurrent.memory_gets)
SYNC = Measure("gets on memory, sync, 16 threads", threads.many)
ALONE = Measure("uncached get on memory, sync, 1 thread, latency", threads.alone)
STUBS = Measure("unary `GetValue` on memory, by stubs", serving.by_stubs)
COSTS = "cost of an operation by number of keys"

FLOORS = (
    HIT,
    Measure("`d[k]` hit, against redis-py's client-side cache", hits.client_side_cache),
    ASYNC,
    Measure("durable sets on sqlite, async, 64 tasks", concurrent.sqlite_sets),
    Measure("gets and sets on redis, async, 64 tasks", concurrent.redis_both),
    SYNC,
    ALONE,
    Measure("unary `GetValue` on memory, driven by h2load", serving.by_h2load),
    Measure("loading a mirror", loading.mirror),
    Measure("invalidation lag, p50", lag.median),
)
OTHERS = (
    STUBS,
    Measure("`d[k]` hit, against cachetools", hits.lru),
    Measure("`d[k]` hit, against diskcache", hits.disk),
    Measure("`d[k]` hit, against py-key-value on Redis", hits.py_key_value),
    Measure("`d[k]` hit, against the Moobius SDK's CachedDict", hits.moobius),
    Measure("redis, sync", direct.sync),
)

# What needs nothing but Python packages.
CHECKED = (HIT, ASYNC, SYNC, ALONE, STUBS, Measure("loading a mirror", loading.decoding))


def collect(size: Size, progress: Callable[[str], None]) -> Results:
    """Takes every measure."""
    results = Results()
    results.floors += take(FLOORS, size, progress)

    def costs(size: Size) -> list[Row]:
        results.costs += keys.measure(size)
        return keys.rows(results.costs, min(size.keys))

    results.floors += take([Measure(COSTS, costs)], size, progress)
    results.others += take(OTHERS, size, progress)
    return results


def take(measures: Iterable[Measure], size: Size, progress: Callable[[str], None]) -> list[Row | Unmeasured]:
    """Returns the rows of the measures. One that fails does not keep the rest from being taken."""
    rows: list[Row | Unmeasured] = []
    for measure in measures:
        progress(f"peers: {measure.title}")
        try:
            rows += measure.take(size)
        except MissingPeerError as error:
            rows.append(Unmeasured(measure.title, str(error), absent=True))
        except Exception as error:  # whatever it is, it tells of this measure alone
            rows.append(Unmeasured(measure.title, f"{type(error).__name__}: {error}", absent=False))
    return rows
