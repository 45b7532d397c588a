"""A store of asyncio in another event loop than its own, or in none, says so, and closes quietly."""

import asyncio
import math
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict.aio import store as store_module
from served import Served

from ..gate import DEADLINE

METHODS: dict[str, Callable[[aio.Store, aio.CachedDict, str], Any]] = {
    "get_value": lambda store, d, domain: store.get_value(domain, "a"),
    "get_entry": lambda store, d, domain: store.get_entry(domain, "a"),
    "set_value": lambda store, d, domain: store.set_value(domain, "a", 2),
    "set_value, conditional": lambda store, d, domain: store.set_value(domain, "a", 2, if_absent=True),
    "set_value, large": lambda store, d, domain: store.set_value(domain, "a", "v" * 50_000),
    "delete_key": lambda store, d, domain: store.delete_key(domain, "a"),
    "all_keys": lambda store, d, domain: anext(store.all_keys(domain)),
    "all_entries": lambda store, d, domain: anext(store.all_entries(domain)),
    "get_many": lambda store, d, domain: store.get_many(domain, ["a"]),
    "set_many": lambda store, d, domain: store.set_many(domain, {"a": 2}),
    "delete_many": lambda store, d, domain: store.delete_many(domain, ["a"]),
    "server_info": lambda store, d, domain: store.server_info(),
    "dict": lambda store, d, domain: store.dict(domain),
    "dict, linearizable": lambda store, d, domain: store.dict(domain, consistency="linearizable"),
    "audit": lambda store, d, domain: store.audit(),
    "d.on_change": lambda store, d, domain: d.on_change(print),
    "d.fetch": lambda store, d, domain: d.fetch("a"),
    "d.has": lambda store, d, domain: d.has("none"),
    "d.get_many": lambda store, d, domain: d.get_many(["a"]),
    "d.snapshot": lambda store, d, domain: d.snapshot(),
    "d.refresh": lambda store, d, domain: d.refresh(),
    "d.set": lambda store, d, domain: d.set("a", 2),
    "d.delete": lambda store, d, domain: d.delete("a"),
    "d.save": lambda store, d, domain: d.save("a"),
    "d.setdefault": lambda store, d, domain: d.setdefault("none", 2),
    "d.pop": lambda store, d, domain: d.pop("a"),
    "d.popitem": lambda store, d, domain: d.popitem(),
    "d.update": lambda store, d, domain: d.update(a=2),
    "d.delete_many": lambda store, d, domain: d.delete_many(["a"]),
    "d.clear": lambda store, d, domain: d.clear(),
    "d.edit": lambda store, d, domain: d.edit("a", lambda value: 2),
    "async with d.edit": lambda store, d, domain: d.edit("a").__aenter__(),
}


class Loop:
    """An event loop with a store and a dict, which ends, stands still, or runs in another thread."""

    def __init__(self, address: str, domain: str) -> None:
        self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        self._address = address
        self._domain = domain
        self.store, self.d = self.loop.run_until_complete(self._begin())
        self._thread: threading.Thread | None = None

    async def _begin(self) -> tuple[aio.Store, aio.CachedDict]:
        store = aio.connect(self._address)
        await store.set_value(self._domain, "a", 1)
        return store, await store.dict(self._domain)

    def end(self) -> None:
        """Does what asyncio.run does in the end."""
        if self._thread is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(DEADLINE)
        self._runner.close()

    def run(self) -> None:
        """Lets it run in another thread."""
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()


STATES: dict[str, tuple[Callable[[Loop], None], str]] = {
    "ended": (Loop.end, "has ended"),
    "stands still": (lambda loop: None, "in another event loop than its own"),
    "runs elsewhere": (Loop.run, "asyncio.run_coroutine_threadsafe"),
}


@pytest.fixture(scope="module", params=list(STATES))
def used(server: Served, request: pytest.FixtureRequest) -> Iterator[tuple[Loop, str]]:
    loop = Loop(server.address, f"test.loops.{request.param.replace(' ', '-')}")
    act, message = STATES[request.param]
    act(loop)
    yield loop, message
    # In whatever loop, and twice.
    asyncio.run(loop.store.close())
    asyncio.run(loop.store.close())
    loop.end()


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_says_in_another_loop_what_to_do(
    used: tuple[Loop, str], server: Served, name: str
) -> None:
    loop, message = used

    async def use() -> None:
        result = METHODS[name](loop.store, loop.d, loop._domain)
        async with asyncio.timeout(DEADLINE):
            await result

    with pytest.raises(neardict.ClosedError, match=message):
        asyncio.run(use())
    with neardict.connect(server.address, watch=False) as elsewhere:
        assert elsewhere.get_value(loop._domain, "a") == 1


def test_where_no_loop_runs_connect_and_every_method_say_so(server: Served, domain: str) -> None:
    with pytest.raises(neardict.ClosedError, match=r"within asyncio\.run"):
        aio.connect(server.address)
    loop = Loop(server.address, domain)
    try:
        for method in (loop.d.set("a", 2), loop.d.fetch("a"), loop.store.server_info()):
            with pytest.raises(neardict.ClosedError, match="while its event loop does not run"):
                method.send(None)
        with pytest.raises(neardict.ClosedError, match="while its event loop does not run"):
            loop.d.on_change(print)
        assert loop.d["a"] == 1
    finally:
        loop.loop.run_until_complete(loop.store.close())
        loop.end()


async def test_with_in_place_of_async_with_says_so(server: Served) -> None:
    store = aio.connect(server.address, watch=False)
    with pytest.raises(neardict.NeardictError, match="async with") as caught, store:
        pass
    assert isinstance(caught.value, TypeError)
    await store.close()


def test_what_a_loop_that_ended_held_stays_once_the_store_is_closed(server: Served, domain: str) -> None:
    loop = Loop(server.address, domain)
    loop.loop.run_until_complete(loop.store.close())
    loop.end()
    assert asyncio.run(loop.d.fetch("a")) == 1
    with pytest.raises(neardict.ClosedError, match="is closed: connect again"):
        asyncio.run(loop.d.set("a", 2))


QUIET = """
import asyncio, gc, sys, threading
from neardict import aio
from neardict.aio import store as store_module

target, domain, how = sys.argv[1:]
store = None

async def use():
    global store
    store = aio.connect(target)
    d = await store.dict(domain)
    await d.set("a", 1)
    await store.set_value(domain, "expires", 1, ttl=100)
    d.on_change(lambda *change: None)
    store.audit()

async def close():
    await store.close()
    await store.close()

loop = asyncio.new_event_loop()
if how == "asyncio.run":
    asyncio.run(use())
    asyncio.run(close())
elif how == "a loop that was just closed":
    loop.run_until_complete(use())
    loop.close()
    asyncio.run(close())
elif how == "a loop that stands still":
    loop.run_until_complete(use())
    asyncio.run(close())
elif how == "a loop that goes on":
    loop.run_until_complete(use())
    asyncio.run(close())
    loop.run_until_complete(asyncio.sleep(0.2))
elif how == "a loop in another thread":
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(use(), loop).result()
    asyncio.run(close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
elif how == "no loop":
    asyncio.run(use())
    try:
        store.close().send(None)
    except StopIteration:
        pass
elif how == "never closed":
    asyncio.run(use())
loop.close()
del store
gc.collect()
assert not [thread.name for thread in threading.enumerate() if "neardict" in thread.name]
"""


@pytest.mark.parametrize(
    "how",
    [
        "asyncio.run",
        "a loop that was just closed",
        "a loop that stands still",
        "a loop that goes on",
        "a loop in another thread",
        "no loop",
        "never closed",
    ],
)
def test_closing_is_quiet_and_leaves_no_thread_wherever_it_is_done(
    server: Served, domain: str, how: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", QUIET, server.address, domain, how],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    # Which grpc before 1.85 says where several loops have used it: https://github.com/grpc/grpc/issues/25364
    lines = [line for line in ended.stderr.splitlines() if "BlockingIOError" not in line]
    assert (ended.returncode, lines) == (0, [])


def test_a_store_whose_loop_takes_long_to_close_it_is_left_to_that_loop(
    server: Served, domain: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_module, "_LOOP_SECONDS", 0.1)
    go = threading.Event()
    stores: queue.SimpleQueue[aio.Store] = queue.SimpleQueue()

    async def hold() -> None:
        async def stubborn() -> None:
            try:
                await asyncio.sleep(math.inf)
            finally:
                while not go.is_set():
                    await asyncio.sleep(0.005)

        store = aio.connect(server.address)
        await store.dict(domain)
        store.spawn(stubborn())
        await asyncio.sleep(0)
        stores.put(store)
        while store._ending is None or not store._ending.done():
            await asyncio.sleep(0.005)

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    store = stores.get(timeout=DEADLINE)
    try:
        asyncio.run(store.close())
    finally:
        go.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert store._watching._relay is None
    assert caplog.records == []
