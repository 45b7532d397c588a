"""How long after a write its watchers are told, by how many there are."""

from ..lag import percentile
from ..listeners import Watchers
from ..watch import Size as WatchSize
from ..watch import bench_of
from .series import Series, Sweep
from .size import Size

DOMAIN = "bench.shared"
WRITES = 50


def measure(size: Size) -> list[Sweep]:
    """Returns the lag at few writes a second, with all watchers on the machine of the server."""
    watch = WatchSize(seconds=size.watch_seconds)
    lines = {percent: Series(f"p{percent}") for percent in (50, 99)}
    unary = Series("unary round trip")
    with bench_of("memory") as bench, Watchers(bench.address) as watchers:
        subscribed = 0
        for count in size.watchers:
            watchers.subscribe([[DOMAIN]] * (count - subscribed))
            subscribed = count
            for _ in range(size.watch_rounds):
                lag = bench.steadily("", watch, [DOMAIN], WRITES, watchers, count).lag
                for percent, line in lines.items():
                    line.note(f"{count:,}", percentile(lag.begun, percent) / 1e6)
                unary.note(f"{count:,}", lag.round_trip / 1e6)
    return [
        Sweep(
            "watchers",
            f"Invalidation lag by watchers of the domain, at {WRITES} writes/s",
            "watchers",
            "ms",
            [*lines.values(), unary],
        )
    ]
