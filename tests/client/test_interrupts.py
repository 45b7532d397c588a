"""Ctrl-C at any line of ours, or of gRPC: the dicts show what is stored, nothing hangs, no thread is left."""

import contextlib
import itertools
import linecache
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from neardict._statuses import Failure
from served import Served
from shown import shown

PACKAGE = str(Path(neardict.__file__).parent)


def interrupted(number: int, act: Callable[[], Any]) -> bool:
    """Runs the function with an interrupt at its n-th line in our package; False if it has fewer."""
    lines = itertools.count()
    reached = False

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        nonlocal reached
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        # At a bare `try:` no signal is ever noticed, and what is raised there goes past its handlers.
        there = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and there != "try:" and next(lines) == number:
            sys.settrace(None)
            reached = True
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            act()
    finally:
        sys.settrace(before)
    return reached


LARGE = "new" * 10_000  # too large for a stream


def update_in_two_attempts(d: neardict.CachedDict, store: neardict.Store) -> None:
    unary, failures = store._calls.unary, [1, 2]

    def fail() -> None:
        raise Failure(grpc.StatusCode.UNAVAILABLE)

    def call(begin: Callable[[], Any], seconds: float) -> Any:
        return unary(begin if not failures or not failures.pop() else fail, seconds)

    store._calls.unary = call  # type: ignore[method-assign]  # fails at first
    try:
        d.update(a=LARGE, c=LARGE)
    finally:
        store._calls.unary = unary  # type: ignore[method-assign]


ACTS: dict[str, Callable[[neardict.CachedDict, neardict.Store], Any]] = {
    "look up": lambda d, store: d["b"],
    "look up what is absent": lambda d, store: d.get("none"),
    "assign": lambda d, store: d.__setitem__("a", "new"),
    "delete": lambda d, store: d.__delitem__("a"),
    "pop": lambda d, store: d.pop("a"),
    "update": lambda d, store: d.update(a="new", c="new"),
    "update in two attempts": update_in_two_attempts,
    "delete many": lambda d, store: d.delete_many(["a", "b", "none"]),
    "get many": lambda d, store: d.get_many(["a", "b", "none"]),
    "refresh": lambda d, store: d.refresh(),
    "snapshot": lambda d, store: d.snapshot(),
    "edit": lambda d, store: d.edit("a", lambda value: "new"),
    "write by the store": lambda d, store: store.set_value(d.domain, "a", "new"),
    "delete by the store": lambda d, store: store.delete_key(d.domain, "a"),
}


@pytest.mark.parametrize("name", list(ACTS))
def test_an_interrupt_wherever_it_comes_leaves_dicts_that_show_what_is_stored(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is raised in a finalizer, Python prints and forgets.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    cache, mirror = store.dict(domain, load=False), store.dict(domain)
    # Not every line, which would take long; of some, which have much in common, fewer.
    step = 5 if name in ("look up", "assign", "update") else 11
    for number in itertools.count(step=step):
        elsewhere.set_many(domain, {"a": f"old {number}", "b": "old"})
        if name.startswith("update"):
            elsewhere.delete_key(domain, "c")
        cache.refresh()
        mirror.refresh()
        cache._drop("b")
        if not interrupted(number, lambda: ACTS[name](cache, store)):
            break
        # A call that was given up may be on its way still; this one comes after it.
        store.delete_key(domain, "fence")
        stored = {entry.key: entry.value for entry in elsewhere.all_entries(domain)}
        for one in (cache, mirror):
            assert one.get_many(["a", "b", "c"]) == stored, number
            assert one.copy() == stored, number
            # Nothing that is held is gone, and nothing has a revision without being held.
            assert one._versions.held.keys() <= shown(one).keys(), number
            assert not one._flights, number
    assert number > 10


STORM = """
import gc, os, random, signal, sys, threading, time
import neardict

target, domain, seed, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
chance = random.Random(seed)
armed = False

class Raised(Exception):
    pass

def handle(*_):
    if armed:
        raise Raised

signal.signal(signal.SIGALRM, handle)
# What is raised in a finalizer, or a hook of os.fork, Python prints and forgets.
sys.unraisablehook = lambda unraisable: None
store = neardict.connect(target, timeout=10)
elsewhere = neardict.connect(target, watch=False)
elsewhere.set_many(domain, {str(number): number for number in range(50)})
elsewhere.set_value(domain, "large", "v" * 50_000)
cache, mirror = store.dict(domain, load=False), store.dict(domain)

def expires():
    store.set_value(domain, "expires", 1, ttl=100)
    mirror.refresh("expires")

def begin_and_end():
    with neardict.connect(target, timeout=10) as another:
        another.dict(f"{domain}.{chance.randrange(9)}")
        another.server_info()

def fork():
    if not (child := os.fork()):
        os._exit(0)
    while True:
        try:
            return os.waitpid(child, 0)
        except Raised:
            pass
        except ChildProcessError:
            return  # just before, it had been waited for

ACTS = [
    lambda: len(cache),
    lambda: bool(cache),
    lambda: next(store.all_keys(domain)),
    lambda: list(store.all_entries(domain)),
    lambda: mirror.refresh(),
    lambda: store.server_info(),
    lambda: store.get_value(domain, "large"),
    lambda: store.set_value(domain, "large", "v" * 50_000),
    lambda: store.get_value(domain, "1"),
    lambda: mirror.update({"2": 2, "3": 3}),
    lambda: store.dict(f"{domain}.{chance.randrange(9)}", load=False),
    expires,
    begin_and_end,
    fork,
]
interrupted = 0
end = time.monotonic() + seconds
while time.monotonic() < end or interrupted < 100:
    act = chance.choice(ACTS)
    longest = 0.02 if act in (begin_and_end, fork) else 0.002
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, longest))
            act()
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Raised:
        interrupted += 1
    # Whatever it was, the next call works.
    assert store.get_value(domain, "4") == 4

assert len(cache) >= 50
assert store.server_info().version
assert store.get_value(domain, "large") == "v" * 50_000
deadline = time.monotonic() + 60
while not mirror.fresh or dict(mirror) != {entry.key: entry.value for entry in elsewhere.all_entries(domain)}:
    assert time.monotonic() < deadline, "the mirror is not whole"
    time.sleep(0.01)
# No call goes on, and no threads but those that a store has.
while store._calls._made or sum(one.name == "neardict calls" for one in threading.enumerate()) > 5:
    assert time.monotonic() < deadline, "calls go on"
    gc.collect()
    time.sleep(0.01)
began = time.monotonic()
store.close()
elsewhere.close()
assert time.monotonic() - began < 5, "close takes long"
gc.collect()  # stores that were not even made
while left := [one.name for one in threading.enumerate() if "neardict" in one.name]:
    assert time.monotonic() < deadline, left
    time.sleep(0.01)
print(interrupted)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_signal_handler_that_raises_at_any_moment_breaks_nothing(
    server: Served, domain: str, seed: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", STORM, server.address, domain, str(seed), "8"],
        timeout=150,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 100
