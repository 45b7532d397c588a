"""How much is swept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`seconds` is of one run of a closed loop, `watch_seconds` of one of steady writes."""

    rounds: int = 5
    seconds: float = 0.25
    tasks: tuple[int, ...] = (1, 4, 16, 64, 256)
    # Whose latencies are drawn.
    latency_tasks: tuple[int, ...] = (1, 64)
    value_bytes: tuple[int, ...] = (64, 1_024, 16 * 1_024, 128 * 1_024, 1_000 * 1_024)
    watchers: tuple[int, ...] = (1, 10, 100, 500)
    watch_rounds: int = 3
    watch_seconds: float = 2.0


QUICK = Size(
    rounds=1,
    seconds=0.05,
    tasks=(1, 16),
    latency_tasks=(16,),
    value_bytes=(64, 1_024),
    watchers=(1, 5),
    watch_rounds=1,
    watch_seconds=0.3,
)
