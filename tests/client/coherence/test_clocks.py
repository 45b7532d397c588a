"""What dicts do when clocks are wrong, and when their own code has had no turn for a while."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict._session import NEVER, TRUST_SECONDS, Lease
from served import Served
from shown import shown

Until = Callable[[Callable[[], Any]], Any]
BACKENDS = pytest.mark.parametrize("backend", ["sqlite", "memory"])


@pytest.fixture
def wrong_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets by how many seconds the wall clock of this process is ahead."""
    real = time.time
    ahead = [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    return lambda seconds: ahead.__setitem__(0, seconds)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
@BACKENDS
def test_a_wall_clock_that_is_wrong_takes_no_live_entry_and_keeps_no_expired_one(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    wrong_clock: Callable[[float], None],
    seconds: float,
    backend: str,
) -> None:
    domain = f"memory.{domain}" if backend == "memory" else domain
    mirror, cache = store.dict(domain), store.dict(domain, load=False)
    strict = store.dict(domain, consistency="linearizable")
    elsewhere.set_value(domain, "before", "alive", ttl=600)
    assert cache["before"] == "alive"
    wrong_clock(seconds)
    store.set_value(domain, "own", "alive", ttl=600)
    store.set_value(domain, "short", 1, ttl=0.3)
    for d in (mirror, cache, strict):
        assert d["own"] == d["before"] == "alive"
    until(lambda: all("short" not in shown(d) for d in (mirror, cache, strict)))
    assert shown(mirror) == {"before": "alive", "own": "alive"}
    wrong_clock(0)
    for d in (mirror, cache, strict):
        assert dict(d) == {"before": "alive", "own": "alive"}
    assert mirror.pop("before") == "alive"
    assert elsewhere.get_entry(domain, "before") is None


@pytest.mark.parametrize("load", [True, False])
def test_without_a_stream_a_wrong_clock_costs_look_ups_and_no_entry(
    server: Served, domain: str, until: Until, wrong_clock: Callable[[float], None], load: bool
) -> None:
    with neardict.connect(server.address, watch=False) as store:
        d = store.dict(domain, load=load)
        wrong_clock(3600)
        store.set_value(domain, "session", "alive", ttl=600)
        for _ in range(20):
            assert d["session"] == "alive"
            assert (len(d), list(d), dict(d.items())) == (1, ["session"], {"session": "alive"})
        assert d.pop("session") == "alive"
        assert store.get_entry(domain, "session") is None


async def test_with_asyncio_a_wrong_clock_takes_no_live_entry(
    aio_store: aio.Store, domain: str, wrong_clock: Callable[[float], None]
) -> None:
    mirror, cache = await aio_store.dict(domain), await aio_store.dict(domain, load=False)
    wrong_clock(3600)
    await aio_store.set_value(domain, "own", "alive", ttl=600)
    await aio_store.set_value(domain, "short", 1, ttl=0.3)
    assert mirror["own"] == await cache.fetch("own") == "alive"
    async with asyncio.timeout(20):
        while "short" in shown(mirror):
            await asyncio.sleep(0.005)
    assert mirror == await cache.snapshot() == {"own": "alive"}


async def test_what_an_event_loop_was_blocked_for_is_not_taken_for_fresh(
    aio_store: aio.Store, server: Served, domain: str
) -> None:
    mirror, cache = await aio_store.dict(domain), await aio_store.dict(domain, load=False)
    strict = await aio_store.dict(domain, consistency="linearizable", load=False)
    await mirror.set("k", "old")
    await cache.fetch("k")
    async with asyncio.timeout(20):
        while not (mirror.fresh and cache.fresh and dict.__contains__(strict, "k")):
            await strict.fetch("k")
    with neardict.connect(server.address, watch=False) as other:
        other.set_value(domain, "k", "new")
        # What is tested: nothing of this loop runs, for longer than anything proves what it holds.
        time.sleep(TRUST_SECONDS + 0.5)
    assert dict.get(mirror, "k") == "old", "a hit of dict itself cannot know"
    assert (mirror.fresh, cache.fresh, strict.fresh) == (False, False, False)
    for d in (mirror, cache, strict):
        with pytest.raises(neardict.NotHeldError):
            d.get("k")
        with pytest.raises(neardict.NotHeldError):
            list(d)
        with pytest.raises(neardict.NotHeldError):
            json.dumps(d)
    assert await mirror.snapshot() == {"k": "new"}
    assert await cache.fetch("k") == "new"
    async with asyncio.timeout(20):
        while not (mirror.fresh and cache.fresh and strict.fresh):
            await asyncio.sleep(0.005)
    assert mirror["k"] == "new"


READS: dict[str, Callable[[Any], Any]] = {
    "get_many": lambda d: d.get_many(["k"]),
    "snapshot": lambda d: d.snapshot(),
    "items": lambda d: dict(d.items()),
    "values": lambda d: list(d.values()),
    "json": json.dumps,
    "equality": lambda d: d == {"k": "old"},
    "absence": lambda d: "none" in d,
}


@pytest.mark.parametrize("name", READS)
def test_whatever_reads_more_than_a_held_key_looks_at_the_clock(
    own_server: Served, until: Until, name: str
) -> None:
    with neardict.connect(own_server.address, timeout=0.5) as store:
        d = store.dict("d")
        d["k"] = "old"
        until(lambda: d.fresh)
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            d._lease = Lease(NEVER)  # as it is when the process was suspended
            assert not d.fresh
            with pytest.raises(neardict.NeardictError):
                READS[name](d)
            assert shown(d) == {}
        finally:
            own_server.process.send_signal(signal.SIGCONT)


def test_a_dict_that_went_stale_by_itself_is_fresh_again_with_the_next_proof(
    store: neardict.Store, domain: str, until: Until
) -> None:
    d, other = store.dict(domain), store.dict(domain)
    value = d["k"] = ["v"]
    until(lambda: d.fresh)
    session = store.changes.session
    assert session is not None
    session.trust.until = NEVER
    assert d.snapshot() == {"k": ["v"]}, "which was asked for"
    until(lambda: d.fresh and other.fresh)
    assert shown(d)["k"] is value


SUSPENDED = """
import sys, time
import neardict
store = neardict.connect(sys.argv[1])
d = store.dict("d")
while not d.fresh:
    time.sleep(0.01)
last = time.monotonic()
print("ready", flush=True)
while True:
    now = time.monotonic()
    if now - last > 3.0:  # it was suspended
        print(d.fresh, d.snapshot(), len(d.get_many(["k"])), flush=True)
        break
    last = now
"""


def test_a_process_that_was_suspended_reads_what_is_stored(own_server: Served) -> None:
    with neardict.connect(own_server.address, watch=False) as store:
        store.set_value("d", "k", "old")
        command = [sys.executable, "-c", SUSPENDED, own_server.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGSTOP)
                store.set_value("d", "k", "new")
                time.sleep(TRUST_SECONDS + 0.5)  # for so long it is suspended
                process.send_signal(signal.SIGCONT)
                assert process.stdout.readline() == "False {'k': 'new'} 1\n"
            finally:
                process.kill()
