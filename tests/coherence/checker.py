"""Says which rules of the promise a history breaks. docs/consistency.md states them for people.

It goes by revisions, which the service gives and a read's value leads to; `wing_gong` does without.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from .expiry import expiries
from .history import LOSSES, WRITES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .history import Final, History, Op, Stop

# After so long without an answered ping a client no longer trusts its copy: 3 * PING_SECONDS of the client.
H_SECONDS = 3.0
# For how long a ready thread may wait for a processor, and an answer be on its way to a recorder.
SCHEDULING_SECONDS = 1.0
BOUND_SECONDS = H_SECONDS + SCHEDULING_SECONDS
# After a suspended process goes on, its threads get their turn within this.
RESUME_SECONDS = 1.0
# After its server has moved, a client's calls reach it again within this.
RETURN_SECONDS = 10.0


class Violation(NamedTuple):
    """A rule that is broken, and by what."""

    rule: str
    what: str


def losses_of(ops: Iterable[Op]) -> list[tuple[float, float]]:
    """Returns when the service may have lost its memory of requests."""
    return sorted({(op.begin, op.end) for op in ops if op.kind in LOSSES})


def may_be_applied_twice(op: Op, losses: Iterable[tuple[float, float]]) -> bool:
    """Returns whether a retry of the write may have come to a service that had forgotten it."""
    return any(op.begin < end and begin < op.end for begin, end in losses)


class Floor:
    """The greatest revision that had been reached before a time."""

    def __init__(self, points: Iterable[tuple[float, int]]) -> None:
        points = sorted(points)
        self._times = [time for time, _ in points]
        self._greatest = list(accumulate((revision for _, revision in points), max))

    def before(self, time: float) -> int:
        index = bisect_left(self._times, time)
        return self._greatest[index - 1] if index else 0


def _before(floors: dict[str, Floor], key: str, time: float) -> int:
    return floors[key].before(time) if key in floors else 0


class Checker:
    """Holds what is known of the writes. Its rules are generators of violations."""

    def __init__(
        self, history: History, *, bound: float = BOUND_SECONDS, resume: float = RESUME_SECONDS
    ) -> None:
        self._history = history
        self._bound = bound
        self._resume = resume
        ops = history.ops
        self._sets = {op.value: op for op in ops if op.kind == "set"}
        self._reads = sorted((op for op in ops if op.kind in ("ask", "read")), key=lambda op: op.begin)
        self._written = [op for op in ops if op.kind in (*WRITES, "wipe", "restore") and op.outcome == "ok"]
        self._removals: dict[str, list[Op]] = defaultdict(list)
        self._restores: dict[str, list[Op]] = defaultdict(list)
        wipes = [op for op in ops if op.kind == "wipe"]
        for op in ops:
            self._removals.setdefault(op.key, list(wipes))
            if op.kind in ("delete", "restore") and op.value is None and op.outcome != "refused":
                self._removals[op.key].append(op)
            elif op.kind == "restore":
                self._restores[op.value or ""].append(op)
        # Of a write whose answer was lost, the revision is known when it is read together with the value.
        known = ((op.value, op.revision) for op in ops if op.value is not None and op.kind != "restore")
        self._revisions = {value: revision for value, revision in sorted(known) if revision}
        losses = losses_of(ops)
        # Of these it is the greatest, if they were acknowledged, and otherwise not known.
        self._repeated = {op.value for op in self._sets.values() if may_be_applied_twice(op, losses)}
        for value in self._repeated:
            if value is not None and self._sets[value].outcome != "ok":
                self._revisions.pop(value, None)
        acknowledged: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for op in self._written:
            for key in [op.key] if op.kind != "wipe" else self._removals:
                acknowledged[key].append((op.end, op.revision))
        self._acknowledged = {key: Floor(points) for key, points in acknowledged.items()}
        expired: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for op in expiries(ops):
            if op.outcome == "unknown" and (revision := self._revisions.get(op.value or "")):
                op = replace(op, outcome="ok", revision=revision + 1)
            self._removals[op.key].append(op)
            if op.outcome == "ok":
                expired[op.key].append((op.end, op.revision))
        self._expired = {key: Floor(points) for key, points in expired.items()}

    def violations(self) -> Iterator[Violation]:
        """Yields every violation of every rule."""
        yield from self.unique_revisions()
        yield from self.real_time_order()
        yield from self.reads_of_writes()
        yield from self.staleness()
        yield from self.monotonic_reads()
        yield from self.nothing_lost()
        yield from self.convergence()
        yield from self.returns()

    def unique_revisions(self) -> Iterator[Violation]:
        """A revision is of one write, and a write has one revision, however often it was sent."""
        owners: dict[int, tuple[str, str | None]] = {}
        for op in (*self._written, *self._reads):
            # All that is restored is as new as the moment.
            if (
                op.revision
                and op.kind not in ("read", "restore")
                and (op.kind != "ask" or op.value is not None)
            ):
                if owners.setdefault(op.revision, (op.key, op.value)) != (op.key, op.value):
                    yield Violation("unique revisions", f"{op} and {owners[op.revision]}")
                elif op.value in self._repeated:
                    continue
                elif self._revisions.get(op.value or "", op.revision) != op.revision:
                    yield Violation("unique revisions", f"{op} is also {self._revisions[op.value or '']}")

    def real_time_order(self) -> Iterator[Violation]:
        """A write that begins after another was acknowledged has a greater revision."""
        floor = Floor((op.end, op.revision) for op in self._written)
        for op in self._written:
            if op.revision <= floor.before(op.begin):
                yield Violation("real-time order", f"{op} after {floor.before(op.begin)}")

    def reads_of_writes(self) -> Iterator[Violation]:
        """What is read was written: by a write that had begun, and that was not refused."""
        for op in self._reads:
            if op.value is not None:
                write = self._sets.get(op.value)
                if write is None or write.key != op.key or write.outcome == "refused":
                    yield Violation("reads of writes", f"{op} of {write}")
                elif write.begin > op.end:
                    yield Violation("reads of writes", f"{op} before {write}")

    def staleness(self) -> Iterator[Violation]:
        """The service answers with no less than was acknowledged before, or had expired; a dict, than `bound`
        before. A linearizable dict may be as late with what has expired, though with nothing else.
        """
        stops: dict[str, list[Stop]] = defaultdict(list)
        for stop in self._history.stops:
            stops[stop.client].append(stop)
        for op in self._reads:
            time = op.begin
            if op.kind == "read":
                for stop in reversed(stops[op.client]):
                    # While it was suspended its own clock stood still, as far as it could know.
                    if stop.begin <= time <= stop.end + self._resume:
                        time = stop.begin
                time -= self._bound
            gone = time - self._bound if op.kind == "ask" and op.view else time
            floor = max(_before(self._acknowledged, op.key, time), _before(self._expired, op.key, gone))
            if not self._may_see(op, floor):
                rule = "staleness" if op.kind == "read" else "service reads"
                yield Violation(rule, f"{op} is {self._revisions.get(op.value or '')}, below {floor}")

    def monotonic_reads(self) -> Iterator[Violation]:
        """A view of a key never goes back, nor behind what its own client was told was written."""
        views = {(op.client, op.view, op.key) for op in self._reads if op.kind == "read"}
        own: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        for op in self._written:
            own[op.client, op.key].append((op.end, op.revision))
        pending = {view: sorted(own[view[0], view[2]]) for view in views}  # sorted lists are heaps
        floors: dict[tuple[str, str, str], int] = defaultdict(int)
        for op in self._reads:
            view = (op.client, op.view, op.key)
            if op.kind != "read":
                continue
            while pending[view] and pending[view][0][0] < op.begin:
                floors[view] = max(floors[view], heapq.heappop(pending[view])[1])
            if not self._may_see(op, floors[view]):
                yield Violation("monotonic reads", f"{op} after {floors[view]}")
            elif revision := self._least(op, floors[view]):
                heapq.heappush(pending[view], (op.end, revision))

    def nothing_lost(self) -> Iterator[Violation]:
        """What was acknowledged is in the store in the end, unless something newer is."""
        store = [final for final in self._history.finals if not final.client]
        for final in store[-1:]:
            for key, acknowledged in self._acknowledged.items():
                floor = max(acknowledged.before(math.inf), _before(self._expired, key, final.begin))
                if not self._may_hold(key, final.entries.get(key), floor, final.end):
                    yield Violation("nothing lost", f"{key!r} holds {final.entries.get(key)!r} in the end")

    def convergence(self) -> Iterator[Violation]:
        """When all has come to rest, every view equals the store."""
        finals: dict[tuple[str, str], Final] = {(f.client, f.view): f for f in self._history.finals}
        store = finals.pop(("", ""), None)
        for (client, view), final in finals.items():
            if store is None:
                continue
            expected = store.entries
            if not final.whole:
                expected = {key: value for key, value in expected.items() if key in final.entries}
            if final.entries != expected:
                different = sorted(dict(final.entries.items() ^ expected.items()))
                yield Violation("convergence", f"{client} {view}: {different[:3]}")

    def returns(self) -> Iterator[Violation]:
        """A client finds its server again."""
        for found in self._history.returns:
            if found.end - found.begin > RETURN_SECONDS:
                yield Violation("returns", f"{found.client} after {found.end - found.begin:.1f} s")

    def _may_see(self, op: Op, floor: int) -> bool:
        return self._may_hold(op.key, op.value, floor, op.end)

    def _may_hold(self, key: str, value: str | None, floor: int, end: float = math.inf) -> bool:
        """Returns whether the value, or the absence, may be of a revision of at least `floor`."""
        if value is None:
            return not floor or any(self._candidates(key, floor, end))
        if self._revisions.get(value, floor) >= floor:
            return True
        return any(restore.begin < end and restore.revision >= floor for restore in self._restores[value])

    def _least(self, op: Op, floor: int) -> int:
        """Returns the least revision that the read may have seen; 0 if it is not known."""
        if op.value is not None:
            return self._revisions.get(op.value, 0) if op.value not in self._repeated else 0
        if not floor:
            return 0  # perhaps it had not been written yet
        candidates = list(self._candidates(op.key, floor, op.end))
        return min((removal.revision for removal in candidates), default=0)

    def _candidates(self, key: str, floor: int, end: float) -> Iterator[Op]:
        for removal in self._removals[key]:
            if removal.begin < end and (removal.outcome == "unknown" or removal.revision >= floor):
                yield removal
