"""A store does not survive a fork, says so, and hangs neither process."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import neardict
from served import Served

# Longer than any of these takes, shorter than a person waits for a program that hangs at its end.
SECONDS = 30

PRELUDE = """
import asyncio, itertools, multiprocessing, os, sys, threading, time, warnings
import neardict
from neardict import aio
# Python 3.12 and later warn of any fork in a process with threads; that is what is tested here.
warnings.simplefilter("ignore", DeprecationWarning)
target, domain = sys.argv[1:]

def shown(d):
    return [key for key in dict.keys(d) if isinstance(key, str)]

def closed(act):
    try:
        act()
    except neardict.ClosedError as error:
        assert "belongs to the process before the fork: connect in this one" in str(error), error
    except neardict.BulkError as error:
        assert all(type(one) is neardict.ClosedError for one in error.failures.values())
    else:
        raise AssertionError("the store works in the child")

def check_child(store, mirror, cache):
    for d in (mirror, cache):
        assert shown(d) == []
        assert "..." in repr(d) and "{}" not in repr(d)  # what there is, nobody knows here
        for act in (
            lambda: d["a"], lambda: d.get("a"), lambda: "a" in d, lambda: len(d), lambda: bool(d),
            lambda: list(d), lambda: dict(d), lambda: d == {}, lambda: d.copy(), lambda: d.pop("a", None),
            lambda: d.__setitem__("a", 2), lambda: d.__delitem__("a"), lambda: d.update(a=2),
            lambda: d.delete_many(["a"]), lambda: d.clear(), lambda: d.save("a"), lambda: d.refresh(),
            lambda: d.edit("a", len), lambda: d.setdefault("a", 1), lambda: d.get_many(["a"]),
        ):
            closed(act)
    for act in (
        lambda: store.get_value(domain, "a"), lambda: store.set_value(domain, "a", 2),
        lambda: list(store.all_keys(domain)), lambda: store.dict(domain), lambda: store.server_info(),
    ):
        closed(act)
    store.close()
    # A store of its own works.
    with neardict.connect(target) as mine:
        assert mine.get_value(domain, "a") == 1
        mine.set_value(domain, "child", 1)

def check_parent(store, mirror, cache):
    for d in (mirror, cache):
        assert d["a"] == 1
        d["b"] = 2
        assert d["b"] == 2
        d.refresh()
        assert d["child"] == 1
    assert dict(mirror) == dict(cache)

async def check_async_child(d):
    # Without end of the loop, which is the parent's too.
    code = 1
    try:
        assert shown(d) == []
        try:
            await d.fetch("a")
        except neardict.ClosedError as error:
            assert "before the fork" in str(error)
            for connect in (neardict.connect, aio.connect):
                try:
                    connect(target)
                except neardict.ClosedError as error:
                    assert "start it before the parent connects, or by spawn" in str(error)
                    code += 3
    finally:
        os._exit(code)

def assert_child(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

async def until(true):
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)

def prepare():
    store = neardict.connect(target)
    mirror, cache = store.dict(domain), store.dict(domain, load=False)
    mirror["a"] = 1
    store.set_value(domain, "expires", 1, ttl=3600)  # starts the timer's thread
    return store, mirror, cache
"""

PROGRAMS = {
    "os.fork": """
store, mirror, cache = prepare()
child = os.fork()
if not child:
    check_child(store, mirror, cache)
    sys.exit(7)  # through the end of the interpreter, where gRPC's objects are freed
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
check_parent(store, mirror, cache)
store.close()
""",
    "os.fork without closing": """
store, mirror, cache = prepare()
child = os.fork()
if not child:
    check_child(store, mirror, cache)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
check_parent(store, mirror, cache)
""",
    "os.fork during a call": """
store, mirror, cache = prepare()
# More than is read before it is asked for.
store.set_many(domain, {f"{number:05}" + "k" * 1000: 1 for number in range(8_000)})
listing = store.all_keys(domain)
next(listing)
child = os.fork()
if not child:
    for connect in (neardict.connect, aio.connect):
        try:
            connect(target)
        except neardict.ClosedError as error:
            assert "start it before the parent connects, or by spawn" in str(error)
        else:
            os._exit(1)
    sys.exit(7)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert code == 7, code
assert list(listing) and neardict.connect(target)
""",
    "multiprocessing fork": """
store, mirror, cache = prepare()
context = multiprocessing.get_context("fork")
process = context.Process(target=check_child, args=(store, mirror, cache))
process.start()
process.join(20)
assert process.exitcode == 0
with context.Pool(2) as pool:
    # A dict that is sent to another process arrives as a plain dict.
    assert pool.map(type, [mirror, cache]) == [dict, dict]
    assert pool.map(dict, [cache]) == [{"a": 1, "expires": 1, "child": 1}]
check_parent(store, mirror, cache)
store.close()
""",
    "asyncio": """
async def main():
    async with aio.connect(target) as store:
        d = await store.dict(domain)
        await d.set("a", 1)
        child = os.fork()
        if not child:
            await check_async_child(d)
        assert_child(child)
        await d.set("b", 2)
        assert await d.snapshot() == {"a": 1, "b": 2}
asyncio.run(main())
""",
    "asyncio, and the parent goes on": """
async def main():
    async with aio.connect(target) as store, aio.connect(target, watch=False) as other:
        d = await store.dict(domain)
        for number in range(3):
            await other.set_value(domain, "a", number)
            await until(lambda: d.get("a") == number)
            child = os.fork()
            if not child:
                await check_async_child(d)
            # Whatever is written while there is no stream must not be missed: so nothing is served.
            assert not d.fresh
            assert_child(child)
            await other.set_value(domain, "b", number)
            await until(lambda: d.fresh and d.get("b") == number)
        assert dict(d) == {"a": 2, "b": 2}
    assert [thread.name for thread in threading.enumerate() if "neardict" in thread.name] == []
asyncio.run(main())
""",
    "asyncio, in another thread than the loop's": """
async def main():
    async with aio.connect(target) as store, aio.connect(target, watch=False) as other:
        d = await store.dict(domain)
        await d.set("a", 1)

        def fork():
            child = os.fork()
            if not child:
                os._exit(7 if shown(d) == [] else 1)
            assert_child(child)

        await asyncio.to_thread(fork)
        await other.set_value(domain, "b", 2)
        await until(lambda: d.fresh and d.get("b") == 2)
asyncio.run(main())
""",
    "asyncio, with more changes under way than the loop takes": """
async def main():
    async with aio.connect(target) as store:
        with neardict.connect(target, watch=False) as other:
            d = await store.dict(domain)
            for number in range(200):
                other.set_value(domain, "a", number)  # the loop waits meanwhile
            child = os.fork()
            if not child:
                await check_async_child(d)
            assert_child(child)
            other.set_value(domain, "b", 1)
            await until(lambda: d.fresh and d.get("b") == 1)
            assert dict(d) == {"a": 199, "b": 1}
asyncio.run(main())
""",
    "asyncio and multiprocessing": """
async def main():
    async with aio.connect(target) as store:
        d = await store.dict(domain)
        await d.set("a", 1)

        def check():
            assert shown(d) == []
            closed(lambda: d.fetch("a").send(None))

        process = multiprocessing.get_context("fork").Process(target=check)
        process.start()
        process.join(20)
        assert process.exitcode == 0
        await d.set("b", 2)
        await until(lambda: d.fresh and dict(d) == {"a": 1, "b": 2})
asyncio.run(main())
""",
    "os.fork between operations, again and again": """
store = neardict.connect(target, watch=False)
for number in range(20):
    store.set_value(domain, "a", number)
    child = os.fork()
    if not child:
        closed(lambda: store.get_value(domain, "a"))
        if number % 5 == 0:
            with neardict.connect(target, watch=False) as mine:
                assert mine.get_value(domain, "a") == number
        os._exit(7)
    assert store.get_value(domain, "a") == number
    assert_child(child)
""",
    "os.fork by several threads at once, while others use the store": """
store = neardict.connect(target, watch=False)
store.set_value(domain, "a", 1)
ends = threading.Event()
failed = []

def use():
    try:
        while not ends.is_set():
            assert store.get_value(domain, "a") == 1
    except BaseException as error:
        failed.append(error)

def fork():
    for _ in range(8):
        child = os.fork()
        if not child:
            os._exit(7)
        assert_child(child)

users = [threading.Thread(target=use) for _ in range(4)]
forkers = [threading.Thread(target=fork) for _ in range(3)]
for thread in (*users, *forkers):
    thread.start()
for thread in forkers:
    thread.join()
assert store.get_value(domain, "a") == 1
ends.set()
for thread in users:
    thread.join()
assert not failed, failed
store.close()
""",
    "os.fork within a fork": """
store, mirror, cache = prepare()
forks = []

def hook():
    if not forks:
        forks.append(0)
        child = os.fork()
        if not child:
            os._exit(7)
        assert_child(child)

os.register_at_fork(before=hook)
child = os.fork()
if not child:
    check_child(store, mirror, cache)
    os._exit(7)
assert_child(child)
assert forks
check_parent(store, mirror, cache)
store.close()
""",
    "Ctrl-C while os.fork waits for a thread": """
store, mirror, cache = prepare()
class Interrupted(threading.Thread):
    interrupts = True
    def join(self, timeout=None):
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        super().join(timeout)
raised = []
sys.unraisablehook = lambda unraisable: raised.append(unraisable.exc_type)
for name in ("neardict execute", "neardict watch", "neardict ping"):
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)
    thread.__class__ = Interrupted
    if not (child := os.fork()):
        os._exit(7)
    assert_child(child)
    assert store.get_value(domain, "a") == 1
    store.set_value(domain, "b", 1)
assert raised == [KeyboardInterrupt] * 3, raised
deadline = time.monotonic() + 20
while not mirror.fresh:
    assert time.monotonic() < deadline
store.close()
assert [thread.name for thread in threading.enumerate() if "neardict" in thread.name] == []
""",
    "os.fork where no thread can be started after it": """
stores = [neardict.connect(target, timeout=2) for _ in range(3)]
start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]
def sometimes(thread):
    if failures and thread.name == "neardict execute":
        raise failures.pop()
    start(thread)
threading.Thread.start = sometimes
if not (child := os.fork()):
    os._exit(7)
assert_child(child)
assert not failures
worked = []
for store in stores:
    try:
        store.set_value(domain, "a", 1)
        worked.append(store)
    except neardict.DeadlineExceededError:
        pass
assert len(worked) == 2
if not (child := os.fork()):
    os._exit(7)
assert_child(child)
for store in stores:
    store.close()
""",
    "asyncio, with operations under way": """
async def main():
    async with aio.connect(target, watch=False) as store:
        for number in range(10):
            tasks = [asyncio.create_task(store.set_value(domain, str(n), number)) for n in range(100)]
            await asyncio.sleep(0)
            child = os.fork()
            if not child:
                os._exit(7)
            await asyncio.gather(*tasks)
            assert_child(child)
        assert await store.get_many(domain, map(str, range(100))) == dict.fromkeys(map(str, range(100)), 9)
asyncio.run(main())
""",
    "asyncio, with operations under way, in another thread than the loop's": """
async def main():
    async with aio.connect(target, watch=False) as store:
        ends = asyncio.Event()

        async def use(name):
            for number in itertools.count():
                await store.set_value(domain, name, number)
                if ends.is_set():
                    return number

        def fork():
            child = os.fork()
            if not child:
                os._exit(7)
            assert_child(child)

        tasks = [asyncio.create_task(use(str(n))) for n in range(64)]
        for _ in range(10):
            await asyncio.to_thread(fork)
        ends.set()
        written = await asyncio.gather(*tasks)
        assert await store.get_many(domain, map(str, range(64))) == dict(zip(map(str, range(64)), written))
asyncio.run(main())
""",
    "asyncio without closing": """
async def main():
    store = aio.connect(target)
    d = await store.dict(domain)
    await d.set("a", 1)
    if not (child := os.fork()):
        await check_async_child(d)
    assert_child(child)
asyncio.run(main())
assert [thread.name for thread in threading.enumerate() if "neardict" in thread.name] == []
""",
}

SPAWN = """
import multiprocessing, sys
import neardict

def check(d, target, domain):
    assert type(d) is dict
    assert d == {"a": 1}
    with neardict.connect(target) as store:
        assert store.get_value(domain, "a") == 1

if __name__ == "__main__":
    target, domain = sys.argv[1:]
    with neardict.connect(target) as store:
        d = store.dict(domain)
        d["a"] = 1
        process = multiprocessing.get_context("spawn").Process(target=check, args=(d, target, domain))
        process.start()
        process.join(20)
        assert process.exitcode == 0
        try:
            multiprocessing.get_context("spawn").Process(target=check, args=(store, target, domain)).start()
        except TypeError as error:
            assert "neardict.connect" in str(error), error
        else:
            raise AssertionError("a store was sent to another process")
"""


def run(program: list[str], server: Served, domain: str) -> None:
    ended = subprocess.run(
        [sys.executable, *program, server.address, domain], timeout=SECONDS, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_in_the_child_of_a_fork_the_store_says_that_it_is_not_its_own(
    server: Served, domain: str, name: str
) -> None:
    run(["-c", PRELUDE + PROGRAMS[name]], server, domain)


def test_a_spawned_process_gets_plain_dicts_and_no_store(server: Served, domain: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SPAWN)
    run([str(tmp_path / "program.py")], server, domain)


def test_a_program_that_does_not_close_its_store_ends(server: Served, domain: str) -> None:
    run(["-c", PRELUDE + "store, mirror, cache = prepare()"], server, domain)


def test_no_thread_is_left_when_a_store_is_closed(server: Served, domain: str) -> None:
    before = set(threading.enumerate())
    for watch in (True, False):
        with neardict.connect(server.address, watch=watch) as store:
            d = store.dict(domain)
            store.set_value(domain, "key", 1, ttl=3600)
            d.doubt("key")  # which is read anew in a thread
            assert d["key"] == 1
            names = {thread.name for thread in set(threading.enumerate()) - before}
            assert ("neardict expiry" in names, "neardict reload" in names) == (not watch, watch)
        left = set(threading.enumerate()) - before
        assert not [thread for thread in left if thread.name.startswith("neardict")]
