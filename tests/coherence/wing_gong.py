"""Searches for an order of overlapping operations on one key that explains all results: Wing and Gong's
search, as Lowe refined it ("Testing for linearizability", 2017). It knows nothing of revisions.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .history import Op


class _State(NamedTuple):
    """The register's value, and which of the operations under way have taken effect already."""

    value: str | None
    done: frozenset[int]


def linearizable(ops: Iterable[Op], *, initial: str | None = None) -> bool:
    """Returns whether all these operations on one key, but reads of dicts, have an order that explains them.

    Each must take effect at one moment between its begin and its end; what was refused, at none; what has no
    answer, at any moment after its begin and before its end, if it has one, or at none. An `expire` takes its
    value away, if it is there at that moment.
    """
    operations = list(_relevant(list(ops)))
    # Ends come before begins of the same moment: what only touches does overlap for no clock.
    events = sorted(
        [(op.begin, 1, number) for number, op in enumerate(operations)]
        + [(op.end, 0, number) for number, op in enumerate(operations) if op.end < math.inf]
    )
    states = {_State(initial, frozenset())}
    under_way: set[int] = set()
    for _, begins, number in events:
        if begins:
            under_way.add(number)
            continue
        reached = _closure(states, under_way, operations)
        # What has no answer and yet an end may have taken effect until then, or not.
        optional = operations[number].outcome == "unknown"
        states = {_State(s.value, s.done - {number}) for s in reached if optional or number in s.done}
        under_way.discard(number)
        if not states:
            return False
    return True


def _relevant(ops: list[Op]) -> Iterator[Op]:
    """Yields those that matter: a write without an answer that nobody saw is as one that never happened."""
    seen = {op.value for op in ops if op.kind == "ask"}
    for op in ops:
        if op.kind == "expire" and op.outcome == "unknown" and op.value not in seen:
            # That it was there nobody knows, but what it took the place of may be gone with it.
            yield replace(op, kind="delete", value=None)
            continue
        if op.kind in ("read", "forget") or op.outcome == "refused":
            continue
        if op.outcome == "ok" or op.value in seen:
            yield op


def _closure(states: set[_State], under_way: set[int], operations: list[Op]) -> set[_State]:
    """Returns every state that can be reached when some of those under way take effect, in any order."""
    reached = set(states)
    todo = list(states)
    while todo:
        state = todo.pop()
        for number in under_way - state.done:
            op = operations[number]
            if op.kind == "ask" and op.value != state.value:
                continue
            if op.kind == "ask":
                after = state.value
            elif op.kind == "expire":
                after = None if state.value == op.value else state.value
            else:
                after = op.value
            following = _State(after, state.done | {number})
            if following not in reached:
                reached.add(following)
                todo.append(following)
    return reached
