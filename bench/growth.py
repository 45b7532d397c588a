"""A process that gets many entries into a dict, and says how long that took and how much memory it takes.

`python -m bench.growth near ADDRESS ENTRIES` loads a mirror, `python -m bench.growth plain - ENTRIES` decodes
the same JSON into a plain dict. It prints a JSON object with the fields of Growth.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import neardict

from .process import peak, reset_peak, resident

DOMAIN = "bench.mirror"


@dataclass(frozen=True)
class Growth:
    """`seconds` until all is there; bytes by which the process grew: then, at most, and when all was read."""

    seconds: float
    loaded: int
    peak: int
    read: int


def key(number: int) -> str:
    return f"player-{number:06d}"


def value(number: int) -> dict[str, Any]:
    """Returns a small value."""
    return {"hp": number % 100, "name": f"player {number}"}


def small(entries: int) -> Iterator[tuple[str, Any]]:
    """Yields so many small entries."""
    for number in range(entries):
        yield key(number), value(number)


def _text(number: int) -> bytes:
    """Returns the JSON of a small value."""
    return f'{{"hp":{number % 100},"name":"player {number}"}}'.encode()


def of(kind: str, address: str, entries: int) -> Growth:
    """Returns what a process of its own says."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.growth", kind, address, str(entries)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Growth(**json.loads(done.stdout))


@contextmanager
def _near(address: str, entries: int) -> Iterator[Any]:
    with neardict.connect(address) as store:
        # The stream, and whatever else comes once.
        store.dict("bench.first")
        yield lambda: store.dict(DOMAIN)


@contextmanager
def _plain(address: str, entries: int) -> Iterator[Any]:
    # It shares the names of fields between values, as nothing else that decodes JSON: the least memory.
    import orjson

    yield lambda: {key(number): orjson.loads(_text(number)) for number in range(entries)}


def _measure(kind: str, address: str, entries: int) -> Growth:
    with {"near": _near, "plain": _plain}[kind](address, entries) as make:
        gc.collect()
        before = resident()
        reset_peak()
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        highest = peak() - before
        gc.collect()
        loaded = resident() - before
        # What decodes when it is read has done so after this.
        right = sum(made[key(number)]["hp"] == number % 100 for number in range(entries))
        if len(made) != entries or right != entries:
            raise AssertionError(f"of {entries} entries {len(made)} are there, and {right} are right")
        gc.collect()
        return Growth(seconds, loaded, highest, resident() - before)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
