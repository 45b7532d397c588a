"""What compression and chunks cost and bring: `python -m bench.large_values` prints a table in Markdown.

The same store with and without compression, one call after the other in turn, by one thread: on loopback, and
through `bench.throttle`. Each ratio is that of the medians of one run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import neardict

if TYPE_CHECKING:
    from collections.abc import Iterator

NETWORKS = [("loopback", None), ("1 Gbit/s, 1 ms", 1e9), ("100 Mbit/s, 1 ms", 1e8)]
SIZES = [16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024, 16 * 1024 * 1024]
_WORDS = ["health", "channel", "member", "service", "message", "button", "canvas", "menu", "token", "invite"]


def records(size: int) -> bytes:
    """Returns JSON of about so many bytes: names, numbers, short texts. zstd makes it 4 times smaller.

    As bytes, so that what parsing costs does not hide what travelling costs.
    """
    chance = random.Random(size)
    found: list[Any] = []
    written = 0
    while written < size:
        found.append(
            {
                "id": f"{chance.getrandbits(64):016x}",
                "name": " ".join(chance.choices(_WORDS, k=2)).title(),
                "hp": chance.randint(0, 100),
                "position": [round(chance.uniform(-100, 100), 3) for _ in range(2)],
                "tags": chance.sample(_WORDS, 3),
                "note": " ".join(chance.choices(_WORDS, k=chance.randint(3, 12))),
            }
        )
        written += len(json.dumps(found[-1], separators=(",", ":"))) + 1
    return json.dumps(found, separators=(",", ":")).encode()


@contextlib.contextmanager
def _process(*command: str, **env: str) -> Iterator[str]:
    """Runs it, and gives the address in its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env=os.environ | env
    )
    try:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.kill()
        process.wait()


def _measure(address: str, size: int) -> dict[str, tuple[float, float]]:
    """Returns the median seconds of a read and a write: as it is, and the ratio when it is compressed."""
    value = records(size)
    times: dict[tuple[str, bool], list[float]] = {
        (way, zstd): [] for way in ("get", "set") for zstd in (False, True)
    }
    with (
        neardict.connect(address, watch=False) as plain,
        neardict.connect(address, watch=False, compression="zstd") as compressing,
    ):
        for store in (plain, compressing):
            store.set_value("bench", "k", value, timeout=60)
        for _ in range(max(5, min(40, 8_000_000 // size))):
            for store in (plain, compressing):
                begun = time.perf_counter()
                store.set_value("bench", "k", value, timeout=60)
                written = time.perf_counter()
                store.get_value("bench", "k", timeout=60)
                times["set", store is compressing].append(written - begun)
                times["get", store is compressing].append(time.perf_counter() - written)
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {way: (medians[way, False], medians[way, True] / medians[way, False]) for way in ("get", "set")}


def main() -> None:
    print(
        "| network | JSON of | read ms | with zstd | write ms | with zstd |\n|---|---:|---:|---:|---:|---:|"
    )
    limits = {"NEARDICT_LIMITS__MAX_VALUE_BYTES": str(64 * 1024 * 1024), "PYTHONUNBUFFERED": "1"}
    config = '[backends.memory]\nimplementation = "memory"\n'
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "neardict.toml"
        path.write_text(config)
        command = ("neardict_server", "--config", str(path), "--data", folder, "--listen", "127.0.0.1:0")
        address = stack.enter_context(_process(*command, **limits))
        for name, bits in NETWORKS:
            here = address
            if bits is not None:
                here = stack.enter_context(_process("bench.throttle", address, str(bits), "0.0005"))
            for size in SIZES:
                found = _measure(here, size)
                cells = " | ".join(
                    f"{seconds * 1000:,.1f} | **{ratio:.2f}**" for seconds, ratio in found.values()
                )
                print(f"| {name} | {size // 1024:,} KiB | {cells} |", flush=True)


if __name__ == "__main__":
    main()
