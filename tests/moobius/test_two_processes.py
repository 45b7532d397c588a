"""What a second process writes to a storage is in the dicts of the first, without any call."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neardict.moobius import CachedDict, MoobiusStorage
from processes import ended
from shown import shown
from waiting import DEADLINE_SECONDS

Containers = Callable[..., CachedDict]

SECONDS = DEADLINE_SECONDS

PROGRAM = """
    import sys
    from neardict.moobius import MoobiusStorage

    engine, channel = sys.argv[1:]
    d = getattr(MoobiusStorage("1", channel, {"implementation": engine, "name": engine}), engine)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
    """


class Second:
    """A process with a storage of the same channel, that does as it is told with its container `d`."""

    def __init__(self, engine: str, channel: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), engine, channel],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    def does(self, statement: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(statement, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def second(target: str, engine: str, channel: str) -> Iterator[Second]:
    started = Second(engine, channel)
    with ended(started.process) as process:
        yield started
        process.communicate("", timeout=SECONDS)


def becomes(d: CachedDict, expected: dict[str, Any]) -> bool:
    deadline = time.monotonic() + SECONDS
    while shown(d) != expected and time.monotonic() < deadline:
        time.sleep(0.005)
    return shown(d) == expected


def test_a_loaded_container_follows_all_that_another_process_does(
    container: Containers, second: Second, engine: str
) -> None:
    d = container(engine)
    second.does('d["alice"] = {"hp": 100}')
    assert becomes(d, {"alice": {"hp": 100}})
    second.does('d["alice"]["hp"] = 93; d.save("alice"); d["bob"] = None')
    assert becomes(d, {"alice": {"hp": 93}, "bob": None})
    second.does('d.update({str(n): n for n in range(100)}); del d["alice"]')
    assert becomes(d, {"bob": None} | {str(n): n for n in range(100)})
    second.does("d.clear()")
    assert becomes(d, {})
    assert d.stats.misses == 0
    assert d.fresh


def test_a_container_of_what_is_used_follows_that(container: Containers, second: Second, engine: str) -> None:
    d = container(engine, load=False)
    second.does("d.update(used=1, other=2)")
    assert d["used"] == 1
    second.does("d.update(used=10, other=20)")
    assert becomes(d, {"used": 10})
    assert d["other"] == 20
    second.does('del d["used"]')
    assert becomes(d, {"other": 20})


def test_both_processes_see_each_other(
    storage: Callable[..., MoobiusStorage], second: Second, engine: str
) -> None:
    d = getattr(storage(engine), engine)
    second.does('d["n"] = 0')
    for _ in range(10):
        d.edit("n", lambda n: n + 1)
        second.does('d.edit("n", lambda n: n + 1)')
    assert becomes(d, {"n": 20})
