"""Runs clients and faults against a real service from a seed, and checks what came of it."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coherence.checker import Checker, Violation, losses_of, may_be_applied_twice
from coherence.client_mutants import CLIENT_MISTAKES
from coherence.expiry import expiries, tellable
from coherence.history import WRITES, History, load, now
from coherence.running import System, Work
from coherence.schedule import ON_CABLES, ON_NAMES, Schedule, kinds_of, left_out
from coherence.wing_gong import linearizable
from coherence.workload import LINEARIZABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES = ["sync", "aio", "sync", "aio"]
# In a mixed company: who holds no lease writes too.
STRICT_STYLES = [f"{LINEARIZABLE}-sync", f"{LINEARIZABLE}-aio", "sync", f"{LINEARIZABLE}-sync"]
SETTLE_SECONDS = 20.0


@dataclass
class Result:
    """What a run came to. What processes said is not a violation, but somebody should read it."""

    name: str
    seconds: float
    clients: int
    history: History
    violations: list[Violation]
    complaints: list[str]
    # Kinds of faults that could not be made here, and why.
    left_out: dict[str, str]


def run(
    backend: str,
    seconds: float,
    seed: int,
    *,
    kinds: Sequence[str] | None = None,
    mistake: str = "forgetful",
    styles: Sequence[str] = STYLES,
    rate: float = 15.0,
    replicas: int = 1,
    workers: int = 1,
    early: bool = False,
    keep: Path | None = None,
) -> Result:
    """Runs for the seconds, with faults of the kinds (by default all that the backend has), and checks.

    `early` ends the run as soon as a rule is broken. The history is kept in the folder `keep`.
    """
    name = backend if replicas == 1 else f"{backend}, {replicas} servers"
    if workers > 1:
        name = f"{name}, {workers} workers"
    if any(style.startswith(LINEARIZABLE) for style in styles):
        name = f"{name}, {LINEARIZABLE}"
    with tempfile.TemporaryDirectory(prefix="neardict-soak-") as folder:
        kinds = kinds_of(backend, workers) if kinds is None else kinds
        missing = left_out(kinds)
        kinds = [kind for kind in kinds if kind not in missing]
        work = Work(
            seed,
            rate,
            cables=not ON_CABLES.isdisjoint(kinds),
            names=not ON_NAMES.isdisjoint(kinds),
            # All but json can do that.
            mortal=backend != "json",
            mistake=mistake if mistake in CLIENT_MISTAKES else "",
        )
        servers = "forgetful" if mistake in CLIENT_MISTAKES else mistake
        with System(backend, Path(folder), work, mistake=servers, workers=workers) as system:
            system.serve(replicas)
            system.join(*styles)
            schedule = Schedule(system, random.Random(f"{seed} faults"), kinds)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                schedule.next(deadline)
                complaints = system.complaints()
                if early:
                    history = load(system.histories(), until=now())
                    if found := violations(history):
                        return Result(name, seconds, len(styles), history, found, complaints, missing)
            system.settle(SETTLE_SECONDS)
            history = load(system.histories(), until=now())
            if keep is not None:
                for path in system.histories():
                    shutil.copy(path, keep / f"{backend}-{path.name}")
            complaints = system.complaints()
        return Result(name, seconds, len(styles), history, violations(history), complaints, missing)


def violations(history: History) -> list[Violation]:
    """Returns what the history breaks, by the checker and by the search."""
    found = list(Checker(history).violations())
    wipes = [op for op in history.ops if op.kind == "wipe"]
    by_key = {op.key: [*wipes] for op in history.ops}
    losses = losses_of(history.ops)
    gone = expiries(history.ops)
    for op in (*tellable(history.ops, gone), *gone):
        if op.kind not in ("read", "wipe"):
            by_key[op.key].append(op)
        if op.kind in WRITES and op.outcome == "ok" and may_be_applied_twice(op, losses):
            by_key[op.key].append(replace(op, outcome="unknown"))
    found += [
        Violation("linearizability", f"of what the service answered for {key!r}")
        for key, ops in by_key.items()
        if not linearizable(ops)
    ]
    return found
