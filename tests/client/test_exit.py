"""What uses a store while the interpreter exits: it works as long as that can be, and else fails at once."""

import subprocess
import sys

import pytest

from served import Served

# A call that nobody serves would take its timeout, of 10 seconds, each.
PROGRAM = """
import asyncio, atexit, sys, time

ACTS = {}

def use(when):
    for name, act in ACTS.items():
        began = time.monotonic()
        try:
            act()
            outcome = "done"
        except BaseException as error:
            outcome = type(getattr(error, "failures", {}).get("a", error)).__name__
        if time.monotonic() - began > 5:
            outcome += ", late"
        print(when, name, outcome, sep=": ")

# Before ours, and so called after them.
atexit.register(use, "atexit")
import neardict
from neardict import aio, moobius

target, domain, consistency = sys.argv[1:]
store = neardict.connect(target)
d = store.dict(domain, consistency=consistency)
cache = store.dict(domain, load=False)
d["a"] = 1
half_read = store.all_keys(domain)
next(half_read)
loop = asyncio.new_event_loop()

async def connect():
    return aio.connect(target)

astore = loop.run_until_complete(connect())

async def listing():
    return [key async for key in astore.all_keys(domain)]

ACTS |= {
    "write": lambda: d.__setitem__("a", 2),
    "write by the store": lambda: store.set_value(domain, "a", 2),
    "write in chunks": lambda: store.set_value(domain, "a", "v" * 50_000),
    "read": lambda: store.get_value(domain, "a"),
    "listing": lambda: len(cache),
    "info": lambda: store.server_info(),
    "many": lambda: store.set_many(domain, {"a": 1}),
    "dict": lambda: store.dict(domain),
    "async write": lambda: loop.run_until_complete(astore.set_value(domain, "a", 1)),
    "async listing": lambda: loop.run_until_complete(listing()),
}

class AtTheEnd:
    def __init__(self, *held):
        self.held = held

    def __del__(self):
        use("__del__")
        store, astore, loop, connect = self.held
        for name, end in {
            "connect": connect,
            "close": store.close,
            "async close": lambda: loop.run_until_complete(astore.close()),
        }.items():
            try:
                end()
                print("__del__", name, "done", sep=": ")
            except Exception as error:
                print("__del__", name, type(error).__name__, sep=": ")

def again(connect=neardict.connect, target=target):
    connect(target)

last = AtTheEnd(store, astore, loop, again)
"""


@pytest.mark.parametrize("consistency", ["bounded", "linearizable"])
def test_a_call_at_exit_works_from_atexit_and_fails_at_once_from_del(
    server: Served, domain: str, consistency: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.address, domain, consistency],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    acts = [
        "write",
        "write by the store",
        "write in chunks",
        "read",
        "listing",
        "info",
        "many",
        "dict",
        "async write",
        "async listing",
    ]
    assert ended.stdout.splitlines() == [
        *(f"atexit: {act}: done" for act in acts),
        *(f"__del__: {act}: ClosedError" for act in acts),
        "__del__: connect: ClosedError",
        "__del__: close: done",
        "__del__: async close: done",
    ]
