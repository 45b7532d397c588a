"""A cached hit against a plain dict: the same statements on a mirror of KEYS entries and on its copy.

Each statement is compiled anew for each of the two, since the interpreter specialises code to the types
that it meets. Their runs take turns. The keys that are looked up are equal to those that are held, not
the same objects, except where a line says so. All the while the mirror is fresh: its stream of changes is
open, and vouches for it.
"""

import random
import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import neardict
from neardict._lease import Consistency

from .operations import DOMAIN, KEYS, key

SEED = 2


@dataclass(frozen=True)
class Statement:
    """What is timed: `code` does `count` things to the dict `d`."""

    title: str
    code: str
    count: int


STATEMENTS = (
    Statement("`d[k]`, all keys in random order", "for k in keys: d[k]", KEYS),
    Statement("`d[k]`, one key, the very object held", "d[k]", 1),
    Statement("`k in d`", "for k in keys: k in d", KEYS),
    Statement("`d.get(k)`", "for k in keys: d.get(k)", KEYS),
    Statement(f"`for k in d`, all {KEYS:,} keys", "for k in d: pass", KEYS),
    Statement(f"`for k, v in d.items()`, all {KEYS:,}", "for k, v in d.items(): pass", KEYS),
)


@dataclass
class Hit:
    """Nanoseconds of one look-up or one step, in each repeat, on the plain dict and on the mirror."""

    title: str
    plain: list[float] = field(default_factory=list)
    near: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """By the least times, which other programs on the machine disturb least."""
        return min(self.near) / min(self.plain)

    @property
    def ratios(self) -> list[float]:
        """Of each repeat."""
        return [near / plain for near, plain in zip(self.near, self.plain, strict=True)]

    @property
    def median_ratio(self) -> float:
        return statistics.median(self.ratios)


def measure(address: str, *, repeats: int, look_ups: int, consistency: Consistency = "bounded") -> list[Hit]:
    """Returns the times; each repeat makes about so many look-ups. `address` serves the keys."""
    with neardict.connect(address) as store:
        mirror = store.dict(DOMAIN, consistency=consistency)
        plain = mirror.snapshot()
        if len(plain) != KEYS:
            raise AssertionError(f"the mirror holds {len(plain)} entries, not {KEYS}")
        hits = []
        for statement in STATEMENTS:
            hits.append(_measure(statement, plain, mirror, repeats, look_ups))
            if not mirror.fresh:
                raise AssertionError("the stream of changes does not vouch for the mirror any more")
        return hits


def shuffled_keys() -> list[str]:
    """Returns all keys in an order of their own, as objects that are equal to those held and not the same."""
    keys = [key(number) for number in range(KEYS)]
    random.Random(SEED).shuffle(keys)
    return keys


def _measure(
    statement: Statement, plain: dict[str, Any], mirror: dict[str, Any], repeats: int, look_ups: int
) -> Hit:
    keys = shuffled_keys()
    hit = Hit(statement.title)
    timers = [
        timer(statement, target, keys, next(iter(plain)), look_ups=look_ups) for target in (plain, mirror)
    ]
    for _ in range(repeats):
        for times, take in zip((hit.plain, hit.near), timers, strict=True):
            times.append(take())
    return hit


def timer(
    statement: Statement, target: Any, keys: list[str], held: str, *, look_ups: int
) -> Callable[[], float]:
    """Returns what takes the nanoseconds of one of the things, by doing it about so many times."""
    number = max(1, look_ups // statement.count)
    # Names that the setup binds are local, as they are in a function that is fast.
    timed = timeit.Timer(
        statement.code,
        "d, keys, k = target, shuffled, held",
        globals={"target": target, "shuffled": keys, "held": held},
    )
    return lambda: timed.timeit(number) / number / statement.count * 1e9
