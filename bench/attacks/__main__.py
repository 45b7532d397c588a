"""The command `make attack`: each attack of one client, what another notices, and what memory it takes."""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .. import page
from ..backends import one
from ..process import peak, resident
from .calls import ATTACKS

PAGE = Path("docs/reliability.md")
PART = "attacks"
# A call that takes longer has failed; on a busy machine some take seconds, which the table tells.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Latency:
    """Of the probe's calls, in milliseconds, and how many failed."""

    p50: float
    p99: float
    errors: int


@dataclass(frozen=True)
class Outcome:
    """What the probe noticed, and the server's bytes before, at most and after."""

    name: str
    what: str
    before: Latency
    during: Latency
    after: Latency
    memory: tuple[int, int, int]


def main() -> int:
    """Returns 0 if no call of the probe has failed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each attack lasts")
    parser.add_argument("--backend", default="sqlite", choices=("sqlite", "memory", "json"))
    parser.add_argument("--only", action="append", choices=[attack.__name__ for attack in ATTACKS])
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    outcomes = []
    for attack in ATTACKS:
        if options.only is None or attack.__name__ in options.only:
            print(f"attack: {attack.__name__}", file=sys.stderr, flush=True)
            outcomes.append(_try(attack, options.backend, options.seconds))
    text = _table(outcomes)
    if options.write:
        command = f"make attack, on {options.backend}"
        text = f"{page.surroundings(command, (load_before, os.getloadavg()[0]))}\n\n{text}"
        page.write(PAGE, PART, text)
    print(text)
    return 1 if any(one.before.errors + one.during.errors + one.after.errors for one in outcomes) else 0


def _try(attack: Callable[[str], None], backend: str, seconds: float) -> Outcome:
    with one(backend) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        stub.SetValue(pb.SetValueRequest(domain="probe", key="k", value=pb.Value(json='"small"')))
        pid = server.process.pid
        before = _probe(stub, seconds / 2)
        memory = resident(pid)
        process = multiprocessing.get_context("spawn").Process(
            target=attack, args=(server.address,), daemon=True
        )
        process.start()
        time.sleep(1.0)  # it imports
        during = _probe(stub, seconds)
        process.kill()
        process.join()
        most = peak(pid)
        after = _probe(stub, seconds)
        what = (attack.__doc__ or "").strip()
        return Outcome(attack.__name__, what, before, during, after, (memory, most, resident(pid)))


def _probe(stub: Any, seconds: float) -> Latency:
    """Looks a small value up fifty times a second, and writes it in place of each hundredth time."""
    took: list[float] = []
    errors = 0
    end = time.monotonic() + seconds
    # Three at least, however long each takes.
    while (began := time.monotonic()) < end or len(took) < 3:
        try:
            if len(took) % 100 == 50:
                value = pb.Value(json='"small"')
                stub.SetValue(pb.SetValueRequest(domain="probe", key="k", value=value), timeout=_PATIENCE)
            else:
                stub.GetValue(pb.GetValueRequest(domain="probe", key="k"), timeout=_PATIENCE)
        except grpc.RpcError:
            errors += 1
        took.append(1000 * (time.monotonic() - began))
        time.sleep(0.02)
    return Latency(statistics.median(took), statistics.quantiles(took, n=100)[98], errors)


def _table(outcomes: list[Outcome]) -> str:
    when = "before, during, after"
    lines = [
        f"| attack | p50 {when} | p99 {when} | errors | memory before, at most, after |",
        "|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        latencies = (outcome.before, outcome.during, outcome.after)
        p50 = ", ".join(f"{latency.p50:.1f}" for latency in latencies)
        p99 = ", ".join(f"{latency.p99:.1f}" for latency in latencies)
        errors = sum(latency.errors for latency in latencies)
        memory = ", ".join(f"{size / 1e6:.0f}" for size in outcome.memory)
        lines.append(f"| {outcome.what} | {p50} ms | {p99} ms | {errors} | {memory} MB |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
