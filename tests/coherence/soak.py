"""Runs clients and faults against a real service from a seed, and checks what came of it.

PYTHONPATH=tests python -m coherence.soak --backend sqlite --seconds 60 --seed 7
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coherence import faults, figures
from coherence.checker import Checker, Violation
from coherence.history import History, load
from coherence.running import System
from coherence.wing_gong import linearizable

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES = ["sync", "aio", "sync", "aio"]
SETTLE_SECONDS = 20.0


@dataclass
class Result:
    """What a run came to."""

    history: History
    violations: list[Violation]


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
    early: bool = False,
    keep: Path | None = None,
) -> Result:
    """Runs for the seconds, with faults of the kinds (by default all that the backend has), and checks.

    `early` ends the run as soon as a rule is broken. The history is kept in the folder `keep`.
    """
    with tempfile.TemporaryDirectory(prefix="neardict-soak-") as folder:
        with System(backend, Path(folder), seed=seed, mistake=mistake, rate=rate) as system:
            system.serve(replicas)
            system.join(*styles)
            schedule = faults.Schedule(system, random.Random(f"{seed} faults"), kinds)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                schedule.next(deadline)
                if early and (found := violations(load(system.histories()))):
                    return Result(load(system.histories()), found)
            system.settle(SETTLE_SECONDS)
            history = load(system.histories())
            if keep is not None:
                for path in system.histories():
                    shutil.copy(path, keep / f"{backend}-{path.name}")
        return Result(history, violations(history))


def violations(history: History) -> list[Violation]:
    """Returns what the history breaks, by the checker and by the search."""
    found = list(Checker(history).violations())
    keys = {op.key for op in history.ops if op.kind != "wipe"}
    wipes = [op for op in history.ops if op.kind == "wipe"]
    by_key = {key: [*wipes] for key in keys}
    for op in history.ops:
        if op.kind not in ("read", "wipe"):
            by_key[op.key].append(op)
    found += [
        Violation("linearizability", f"of what the service answered for {key!r}")
        for key, ops in by_key.items()
        if not linearizable(ops)
    ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", action="append", choices=["memory", "sqlite", "redis", "json"])
    parser.add_argument("--seconds", type=float, default=60.0, help="per backend")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rate", type=float, default=15.0, help="writes per second of each client")
    parser.add_argument("--replicas", type=int, default=1, help="servers; more than one for redis")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--faults", nargs="*", default=None, choices=list(faults.KINDS))
    parser.add_argument("--keep", type=Path, help="a folder for the histories")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    broken = False
    for backend in args.backend or ["memory", "sqlite"]:
        styles = (STYLES * args.clients)[: args.clients]
        result = run(
            backend,
            args.seconds,
            seed,
            kinds=args.faults,
            styles=styles,
            rate=args.rate,
            replicas=args.replicas if backend == "redis" else 1,
            keep=args.keep,
        )
        print(f"\n## {backend}, {args.seconds:g} seconds, {args.clients} clients, seed {seed}\n")
        print(figures.table(result.history, result.violations), flush=True)
        for violation in result.violations[:20]:
            print(f"VIOLATION {violation.rule}: {violation.what}", file=sys.stderr)
        broken |= bool(result.violations)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
