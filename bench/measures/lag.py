"""How long after a write began a mirror in another process was told, by unary round trips."""

from ..floors import Floor, Row, median_time
from ..lag import percentile
from ..listeners import Dicts
from ..watch import Size as WatchSize
from ..watch import bench_of
from .size import Size

DOMAIN = "bench.mirror"


def median(size: Size) -> list[Row]:
    """p50 of each round by the median of unary calls before and after the round."""
    watch = WatchSize(seconds=size.lag_seconds)
    with bench_of("memory") as bench, Dicts(bench.address) as dicts:
        dicts.open([DOMAIN], load=True)
        dicts.observe()
        runs = [
            bench.steadily("", watch, [DOMAIN], size.lag_rate, dicts).lag for _ in range(size.lag_rounds + 1)
        ][1:]  # the first is to warm up
    return [
        Row(
            "lag",
            f"invalidation lag, p50, at {size.lag_rate:,} writes/s",
            median_time([percentile(run.begun, 50) for run in runs]),
            f"unary round trip: {median_time([run.round_trip for run in runs])}",
            [run.multiple(50) for run in runs],
            Floor(2, most=True),
        )
    ]
