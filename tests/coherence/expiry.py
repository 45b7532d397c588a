"""When entries that were written with a time to live are gone, as far as that can be told from outside."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from .history import Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# By so much the service's wall clock and that of the records may drift apart while an entry lives.
DRIFT_SECONDS = 0.1


def expiries(ops: Iterable[Op]) -> list[Op]:
    """Returns an `expire` for each entry that had a time to live, and for each return of it in an older copy.

    The service takes it away at a moment from its begin to its end, if nobody has written anything else
    by then. An older copy keeps the moment.
    """
    ops = list(ops)
    mortal = {op.value: _expiry(op) for op in ops if op.kind == "set" and op.ttl and op.outcome != "refused"}
    returned = [
        replace(
            mortal[op.value],
            begin=max(mortal[op.value].begin, op.begin),
            end=max(mortal[op.value].end, op.end),
            revision=op.revision + 1,
        )
        for op in ops
        if op.kind == "restore" and op.value in mortal
    ]
    return [*mortal.values(), *returned]


def tellable(ops: Iterable[Op], gone: Iterable[Op]) -> Iterator[Op]:
    """Yields the operations but for what is not promised to be in order.

    A linearizable dict learns of a write before anybody sees it, though not of an expiry.
    """
    begins: dict[str | None, float] = {}
    for expiry in gone:
        begins[expiry.value] = min(expiry.begin, begins.get(expiry.value, math.inf))
    for op in ops:
        if not (op.kind == "ask" and op.view and op.end >= begins.get(op.value, math.inf)):
            yield op


def _expiry(write: Op) -> Op:
    """Returns the end of what was written. No other write of the key has the revision that is given to it."""
    return Op(
        "expire",
        "",
        write.key,
        write.value,
        write.begin + write.ttl - DRIFT_SECONDS,
        write.end + write.ttl + DRIFT_SECONDS,
        outcome=write.outcome,
        revision=write.revision + 1 if write.revision else 0,
    )
