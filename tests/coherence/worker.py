"""A client process of a run: writes and reads through near dicts, and records it.

    python -m coherence.worker --target HOST:PORT --domain D --name w1 --style sync --history FILE --seed 7

Lines on standard input tell it what to do, and it answers each with a line: `clock SECONDS` sets its wall
clock so much ahead of the machine's, `reach SECONDS` has it say when the service has answered a call, or that
they are over; `rest` ends the writing, `final` has it print what its views hold now, as JSON. The end of the
input ends the process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from coherence.client_mutants import CLIENT_MISTAKES, keep_the_address
from coherence.history import Recorder
from coherence.wall_clock import WallClock

if TYPE_CHECKING:
    from coherence.work_aio import AsyncWork
    from coherence.work_sync import SyncWork


def main() -> None:
    args = _arguments()
    clock = WallClock()
    clock.install()
    # Not before, as the package may keep the functions that are replaced.
    from coherence.work_aio import AsyncWork
    from coherence.work_sync import SyncWork
    from coherence.workload import LINEARIZABLE, Plan

    recorder = Recorder(Path(args.history))
    plan = Plan(
        args.name,
        args.domain,
        args.rate,
        random.Random(f"{args.seed} {args.name}"),
        "linearizable" if args.style.startswith(LINEARIZABLE) else "bounded",
        args.mortal,
    )
    target = keep_the_address(args.target) if args.mistake == keep_the_address.__name__ else args.target
    wrong = args.mistake == "expire_by_own_clock"
    if args.style.endswith("sync"):
        _run_sync(SyncWork(target, plan, recorder), clock, wrong)
    else:
        asyncio.run(_run_async(AsyncWork(target, plan, recorder), clock, wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("target", "domain", "name", "history"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--style", required=True, help="sync or aio, perhaps after linearizable-")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=15.0)
    parser.add_argument("--mortal", action="store_true", help="some entries expire")
    parser.add_argument("--mistake", choices=CLIENT_MISTAKES)
    return parser.parse_args()


def _run_sync(work: SyncWork, clock: WallClock, wrong: bool) -> None:
    work.start()
    listener = work.spoil() if wrong else None  # noqa: F841 # held, as the store does not hold it
    _say("ready")
    for line in sys.stdin:
        word, _, seconds = line.strip().partition(" ")
        if word == "clock":
            clock.ahead = float(seconds)
            _say(line.strip())
        elif word == "reach":
            _say(json.dumps(work.reach(float(seconds))))
        elif word == "rest":
            work.rest()
            _say("resting")
        else:
            _say(json.dumps(work.final()))
    work.close()


async def _run_async(work: AsyncWork, clock: WallClock, wrong: bool) -> None:
    await work.start()
    listener = work.spoil() if wrong else None  # noqa: F841 # held, as the store does not hold it
    _say("ready")
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in iter(sys.stdin.readline, ""):
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, name="input", daemon=True).start()
    while line := await lines.get():
        word, _, seconds = line.strip().partition(" ")
        if word == "clock":
            clock.ahead = float(seconds)
            _say(line.strip())
        elif word == "reach":
            _say(json.dumps(await work.reach(float(seconds))))
        elif word == "rest":
            await work.rest()
            _say("resting")
        else:
            _say(json.dumps(await work.final()))
    await work.close()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
