"""Which faults a run has, and when: one after another, drawn from a seed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coherence import cable, names
from coherence.engine_faults import BY_ENGINE
from coherence.faults import ANY, Hands, lost_packets, move_server
from coherence.history import Fault, now
from coherence.worker_faults import WITH_WORKERS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from coherence.running import System

# Between two faults there is time to recover, and to measure it.
CALM_SECONDS = (1.5, 4.0)
KINDS = {
    kind.__name__: kind
    for kind in (*ANY, *(kind for kinds in BY_ENGINE.values() for kind in kinds), *WITH_WORKERS)
}
LOST_PACKETS = lost_packets.__name__
MOVE_SERVER = move_server.__name__
# Those for which clients must have cables, and know the service by a name.
ON_CABLES = {LOST_PACKETS, MOVE_SERVER}
ON_NAMES = {MOVE_SERVER}


def kinds_of(backend: str, workers: int = 1) -> list[str]:
    """Returns the names of all faults that a backend has, on servers of so many workers."""
    more = WITH_WORKERS if workers > 1 else []
    return [kind.__name__ for kind in (*ANY, *BY_ENGINE.get(backend, []), *more)]


def left_out(kinds: Sequence[str]) -> dict[str, str]:
    """Returns those of the kinds that cannot be made on this machine, and why not."""
    reasons = {
        LOST_PACKETS: cable.why_not() if LOST_PACKETS in kinds else "",
        MOVE_SERVER: cable.why_not(losing=False) or names.why_not() if MOVE_SERVER in kinds else "",
    }
    return {kind: reason for kind, reason in reasons.items() if reason}


class Schedule:
    """Draws faults of some kinds; each kind before any comes again."""

    def __init__(self, system: System, randomness: random.Random, kinds: Sequence[str]) -> None:
        self._hands = Hands(system, randomness)
        self._kinds = list(kinds)
        self._left: list[str] = []

    def next(self, deadline: float) -> None:
        """Lets it be calm for a while, then makes the next fault, unless it is late by then."""
        calm = self._hands.randomness.uniform(*CALM_SECONDS)
        time.sleep(max(0.0, min(calm, deadline - time.monotonic())))
        if not self._kinds or time.monotonic() > deadline:
            return
        if not self._left:
            self._left = self._hands.randomness.sample(self._kinds, len(self._kinds))
        kind = self._left.pop()
        begin = now()
        self._hands.over = None
        target = KINDS[kind](self._hands)
        self._hands.system.recorder.other(Fault(kind, target, begin, self._hands.over or now()))
