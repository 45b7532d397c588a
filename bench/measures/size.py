"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`seconds` is of one run of a closed loop; the rest is named for the measure that uses it."""

    rounds: int = 7
    seconds: float = 0.5
    hit_rounds: int = 15
    # Some seconds: the first few thousand calls are quicker than those that follow, of the echo most of all.
    h2load_calls: int = 20_000
    entries: int = 200_000
    load_rounds: int = 3
    lag_rounds: int = 5
    lag_seconds: float = 4.0
    lag_rate: int = 1_000
    key_rounds: int = 4
    key_seconds: float = 0.3
    keys: tuple[int, ...] = (1_000, 30_000, 1_000_000)


QUICK = Size(
    rounds=1,
    seconds=0.05,
    hit_rounds=2,
    h2load_calls=100,
    entries=2_000,
    load_rounds=1,
    lag_rounds=1,
    lag_seconds=0.3,
    lag_rate=100,
    key_rounds=1,
    key_seconds=0.03,
    keys=(100, 1_000),
)

# What fails CI: long enough that noise does not.
CHECK = Size(rounds=5, seconds=0.3, hit_rounds=10, entries=50_000, load_rounds=5)
