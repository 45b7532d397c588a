"""The figures of a run, as a table for docs/consistency.md."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.checker import Violation
    from coherence.history import Fault, History


def table(history: History, violations: Sequence[Violation]) -> str:
    """Returns Markdown."""
    ops = history.ops
    writes = [op for op in ops if op.kind in ("set", "delete")]
    acknowledged = sum(op.outcome == "ok" for op in writes)
    reads = [op for op in ops if op.kind == "read"]
    broken = Counter(violation.rule for violation in violations)
    lags = sorted(_lags(history))
    trip = statistics.median(op.end - op.begin for op in ops if op.kind == "ask")
    rows = [
        ("writes: acknowledged / without answer / refused", _outcomes(acknowledged, writes)),
        ("reads of dicts, of them hits", f"{len(reads)}, {sum(op.hit for op in reads)}"),
        ("reads of the service", str(sum(op.kind == "ask" for op in ops))),
        ("lost writes", str(broken["nothing lost"])),
        ("stale reads after the bound", str(broken["staleness"])),
        ("violations of all rules", str(len(violations))),
        ("unary round trip, p50", f"{trip * 1000:.1f} ms"),
        *((f"invalidation lag, p{p}", _times(_percentile(lags, p), trip)) for p in (50, 99)),
    ]
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    lines += ["", "| fault | times | all fresh again after it: median, longest |", "|---|---|---|"]
    lines += [
        f"| {kind} | {len(times)} | {_recovery(times)} |" for kind, times in _recoveries(history).items()
    ]
    return "\n".join(lines)


def _outcomes(acknowledged: int, writes: Sequence[object]) -> str:
    unknown = sum(getattr(op, "outcome", "") == "unknown" for op in writes)
    return f"{acknowledged} / {unknown} / {len(writes) - acknowledged - unknown}"


def _times(seconds: float, trip: float) -> str:
    return f"{seconds * 1000:.1f} ms, {seconds / trip:.1f} round trips"


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else math.nan


def _lags(history: History) -> list[float]:
    """Returns how long after its acknowledgement each write was in the dicts of each other client.

    Only of what arrived in calm, and 0 for what arrived before its writer was told.
    """
    calm = _calms(history)
    ends = {op.value: op.end for op in history.ops if op.kind == "set" and op.outcome == "ok"}
    return [
        max(0.0, time - ends[value])
        for _, value, time in history.seen
        if value in ends and any(begin < ends[value] < end for begin, end in calm)
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
    """Returns when after each fault the last read was made of a dict that was not fresh, before the next."""
    stale = sorted(op.end for op in history.ops if op.kind == "read" and not op.fresh)
    result = {}
    for fault, next_fault in zip_longest(faults, faults[1:]):
        following = next_fault.begin if next_fault else math.inf
        result[fault] = max((t for t in stale if fault.end < t < following), default=fault.end)
    return result


def _recovery(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} s, {max(times):.2f} s"
