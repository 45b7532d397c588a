"""The figures of runs, as tables for docs/consistency.md."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING

from coherence.history import WRITES
from coherence.schedule import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence.history import Fault, History, Op
    from coherence.soak import Result


def tables(results: Sequence[Result]) -> str:
    """Returns Markdown: a table of what came of the runs and one of their faults, a column for each run."""
    return f"{_table('figure', results, _figures)}\n\n{_table('fault', results, _faults)}"


def _table(what: str, results: Sequence[Result], column: Callable[[Result], dict[str, str]]) -> str:
    columns = [column(result) for result in results]
    order = list(KINDS)  # of the faults; figures stay as they are
    names = sorted(
        dict.fromkeys(name for one in columns for name in one),
        key=lambda name: order.index(name) if name in order else 0,
    )
    rows = [[name, *(one.get(name, "-") for one in columns)] for name in names]
    head = [[what, *(result.name for result in results)], ["---"] * (len(results) + 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in head + rows)


def _figures(result: Result) -> dict[str, str]:
    history = result.history
    ops = history.ops
    writes = [op for op in ops if op.kind in WRITES]
    # Of a linearizable dict they are held to what the service itself is held to.
    reads = [op for op in ops if op.view]
    asked = [op for op in ops if op.kind == "ask" and not op.view]
    broken = Counter(violation.rule for violation in result.violations)
    spans = _spans(history)
    lags = sorted(max(0.0, arrived - write.end) for write, arrived in spans)
    ways = sorted(arrived - write.begin for write, arrived in spans)
    trip = statistics.median(op.end - op.begin for op in asked)
    return {
        "seconds, clients": f"{result.seconds:g}, {result.clients}",
        "writes: acknowledged / without answer / refused": _outcomes(writes),
        "writes with a time to live": f"{sum(op.ttl > 0 for op in writes):,}",
        "reads of dicts, of them hits": f"{len(reads):,}, {sum(op.hit for op in reads):,}",
        "reads of the service": f"{len(asked):,}",
        "lost writes": str(broken["nothing lost"]),
        "stale reads after the bound": str(broken["staleness"]),
        "violations of all rules": f"**{len(result.violations)}**",
        "unary round trip, p50": f"{trip * 1000:.1f} ms",
        **{f"lag after the acknowledgement, p{p}": _times(_percentile(lags, p), trip) for p in (50, 99)},
        **{f"way from writer to another's dict, p{p}": _times(_percentile(ways, p), trip) for p in (50, 99)},
    }


def _faults(result: Result) -> dict[str, str]:
    """Returns how many there were of each kind, and the recoveries from it."""
    recoveries = _recoveries(result.history)
    made = {kind: f"{len(times)}: {_recovery(times)}" for kind, times in recoveries.items()}
    return made | {kind: f"not here: {why}" for kind, why in result.left_out.items()}


def _outcomes(writes: Sequence[Op]) -> str:
    count = Counter(op.outcome for op in writes)
    return f"{count['ok']:,} / {count['unknown']:,} / {count['refused']:,}"


def _times(seconds: float, trip: float) -> str:
    return f"{seconds * 1000:.1f} ms, {seconds / trip:.1f} trips"


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else math.nan


def _spans(history: History) -> list[tuple[Op, float]]:
    """Returns each write with when it was in the dicts of each other client, if all of that was in calm.

    It may be there before its writer is told that it is done.
    """
    calm = _calms(history)
    writes = {op.value: op for op in history.ops if op.kind == "set" and op.outcome == "ok"}
    return [
        (writes[value], time)
        for _, value, time in history.seen
        if value in writes and any(begin < writes[value].begin and time < end for begin, end in calm)
    ]


def _calms(history: History) -> list[tuple[float, float]]:
    """Returns the spans between faults, each from when all clients were fresh again."""
    faults = sorted(history.faults, key=lambda fault: fault.begin)
    recovered = _recovered(history, faults)
    begins = [-math.inf, *(recovered[fault] for fault in faults)]
    return list(zip(begins, [*(fault.begin for fault in faults), math.inf], strict=True))


def _recoveries(history: History) -> dict[str, list[float]]:
    """Returns by kind how long after each fault was over the last client was fresh again."""
    faults = sorted(history.faults, key=lambda fault: fault.begin)
    times: dict[str, list[float]] = defaultdict(list)
    for fault, time in _recovered(history, faults).items():
        times[fault.kind].append(max(0.0, time - fault.end))
    return dict(sorted(times.items()))


def _recovered(history: History, faults: list[Fault]) -> dict[Fault, float]:
    """Returns when after each fault, before the next, the last read was made of a dict that was not fresh.

    And when those whose server had moved had reached it.
    """
    stale = sorted(op.end for op in history.ops if op.view and not op.fresh)
    stale += [found.end for found in history.returns]
    result = {}
    for fault, next_fault in zip_longest(faults, faults[1:]):
        following = next_fault.begin if next_fault else math.inf
        result[fault] = max((t for t in stale if fault.end < t < following), default=fault.end)
    return result


def _recovery(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} s, {max(times):.2f} s"
