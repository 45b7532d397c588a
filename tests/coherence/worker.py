"""A client process of a run: writes and reads through near dicts, and records it.

    python -m coherence.worker --target HOST:PORT --domain D --name w1 --style sync --history FILE --seed 7

Lines on standard input tell it what to do: `rest` ends the writing, `final` has it print what its views hold
now, as one line of JSON; the end of the input ends the process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
from pathlib import Path

from coherence.history import Recorder
from coherence.work_aio import AsyncWork
from coherence.work_sync import SyncWork
from coherence.workload import LINEARIZABLE, Plan

STYLES = ["sync", "aio", f"{LINEARIZABLE}-sync", f"{LINEARIZABLE}-aio"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("target", "domain", "name", "history"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--style", choices=STYLES, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=15.0)
    args = parser.parse_args()
    recorder = Recorder(Path(args.history))
    plan = Plan(
        args.name,
        args.domain,
        args.rate,
        random.Random(f"{args.seed} {args.name}"),
        "linearizable" if args.style.startswith(LINEARIZABLE) else "bounded",
    )
    if args.style.endswith("sync"):
        _run_sync(SyncWork(args.target, plan, recorder))
    else:
        asyncio.run(_run_async(AsyncWork(args.target, plan, recorder)))


def _run_sync(work: SyncWork) -> None:
    work.start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "rest\n":
            work.rest()
            print("resting", flush=True)
        else:
            print(json.dumps(work.final()), flush=True)
    work.close()


async def _run_async(work: AsyncWork) -> None:
    await work.start()
    print("ready", flush=True)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in iter(sys.stdin.readline, ""):
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, name="input", daemon=True).start()
    while line := await lines.get():
        if line == "rest\n":
            await work.rest()
            print("resting", flush=True)
        else:
            print(json.dumps(await work.final()), flush=True)
    await work.close()


if __name__ == "__main__":
    main()
