"""Dicts under a lease: their hits, what hides a key, who is refused, and what a holder costs a writer."""

import asyncio
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

import neardict
from neardict import LinearizableDict, aio
from neardict._session import Lease
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from processes import ended
from redis_server import RedisServer
from served import Served

Until = Callable[[Callable[[], Any]], Any]
MODES = pytest.mark.parametrize("load", [True, False])
# Of the default configuration.
LEASE_SECONDS = 3.0


class Holder:
    """One with a lease of a domain, by stubs alone, who confirms nothing unless he is told to."""

    def __init__(self, target: str, domain: str) -> None:
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(target)
        stub = storage_pb2_grpc.StorageServiceStub(self._channel)
        self._messages = stub.Watch(iter(self._requests.get, None))
        self._requests.put(pb.WatchRequest(subscribe=pb.Subscribe(domain=domain, lease=True)))
        assert self.next("subscribed").subscribed.HasField("lease_duration")
        self._domain = domain

    def next(self, kind: str) -> pb.WatchResponse:
        """Returns the next message of the kind."""
        return next(message for message in self._messages if message.WhichOneof("response") == kind)

    def confirm(self, message: pb.WatchResponse) -> None:
        self._requests.put(pb.WatchRequest(revoked=pb.Revoked(number=message.revoke.number)))

    def give_back(self) -> None:
        self._requests.put(pb.WatchRequest(unsubscribe=pb.Unsubscribe(domain=self._domain)))

    def close(self) -> None:
        self._requests.put(None)
        self._channel.close()


@pytest.fixture
def holder(server: Served, domain: str) -> Iterator[Holder]:
    with closing(Holder(server.address, domain)) as one:
        yield one
        one.give_back()


async def revision_of(store: aio.Store, domain: str) -> int:
    entry = await store.get_entry(domain, "k")
    assert entry is not None
    return entry.revision


def linearizable(store: neardict.Store, domain: str, **options: Any) -> LinearizableDict:
    made = store.dict(domain, consistency="linearizable", **options)
    assert isinstance(made, LinearizableDict)
    return made


@MODES
def test_what_is_acknowledged_anywhere_is_what_is_read_everywhere(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, load: bool
) -> None:
    here, there = linearizable(store, domain, load=load), linearizable(elsewhere, domain, load=load)
    until(lambda: here.fresh and there.fresh)
    for number in range(200):
        here["k"] = number
        assert there["k"] == number
        there["k"] = [number]
        assert here["k"] == [number]
    del here["k"]
    assert "k" not in there
    assert there.get("k", 7) == 7
    assert there == {}


@MODES
def test_a_hit_asks_nobody_and_gives_the_same_object(
    store: neardict.Store, domain: str, until: Until, load: bool
) -> None:
    d = linearizable(store, domain, load=load)
    until(lambda: d.fresh)
    value = d["k"] = {"points": 3}
    # As soon as the service has released the key.
    until(lambda: dict.__contains__(d, "k"))
    misses = d.stats.misses
    for _ in range(100):
        assert d["k"] is value
        assert d.get("k") is value
        assert "k" in d
    assert d.stats.misses == misses


@MODES
def test_a_key_that_is_being_written_is_not_shown_and_comes_back_as_it_was(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, load: bool, holder: Holder
) -> None:
    d = linearizable(store, domain, load=load)
    confirming = threading.Thread(target=lambda: holder.confirm(holder.next("revoke")))
    confirming.start()
    value = d["k"] = ["old"]
    confirming.join()
    until(lambda: dict.__contains__(d, "k"))

    # A write that fails in the end, which waits for the holder.
    def refused() -> None:
        with pytest.raises(neardict.ConflictError):
            elsewhere.set_value(domain, "k", "new", if_revision=1)

    writing = threading.Thread(target=refused)
    writing.start()
    revoke = holder.next("revoke")
    until(lambda: not dict.__contains__(d, "k"))
    assert d["k"] is value, "the service was asked, and has nothing else"
    assert not dict.__contains__(d, "k"), "what is read meanwhile is not held"
    assert (len(d), list(d), d.snapshot(), d == {"k": ["old"]}) == (1, ["k"], {"k": ["old"]}, True)
    assert (list(d.values()), list(d.items())) == ([["old"]], [("k", ["old"])])
    assert "k" in d
    holder.confirm(revoke)
    writing.join()
    until(lambda: dict.__contains__(d, "k"))
    assert dict.get(d, "k") is value


class Overtaken(LinearizableDict):
    """One whose hidden key is shown again just after it was looked for in vain."""

    def __missing__(self, key: object) -> Any:
        self.release("k", 1)
        return super().__missing__(key)


def test_a_key_that_is_shown_again_meanwhile_is_not_taken_for_absent(
    store: neardict.Store, domain: str, until: Until
) -> None:
    store.set_value(domain, "k", "v")
    d = Overtaken(store, domain)
    until(lambda: d.fresh)
    d.revoke("k", 1)
    assert d["k"] == "v"


class Woken(LinearizableDict):
    """One whose process was suspended while it took notice of a renewal that it meets only now."""

    def _look_at_clock(self) -> None:
        super()._look_at_clock()
        self.freshen()


def test_nothing_is_shown_again_under_a_lease_that_is_over(
    store: neardict.Store, domain: str, until: Until
) -> None:
    store.set_value(domain, "k", "v")
    d = Woken(store, domain)
    until(lambda: d.fresh)
    d._lease = Lease()
    misses = d.stats.misses
    assert d["k"] == "v"
    assert d.stats.misses == misses + 1


def test_a_second_dict_serves_hits_at_once(store: neardict.Store, domain: str, until: Until) -> None:
    first = linearizable(store, domain)
    first["k"] = 1
    until(lambda: dict.__contains__(first, "k"))
    second = linearizable(store, domain)
    assert second.fresh
    assert dict.__contains__(second, "k")


def test_a_dict_that_is_made_while_a_key_is_written_does_not_show_it(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, holder: Holder
) -> None:
    first = linearizable(store, domain)
    until(lambda: first.fresh)
    writing = threading.Thread(target=elsewhere.set_value, args=(domain, "k", "new"))
    writing.start()
    revoke = holder.next("revoke")
    until(lambda: first._revoked)
    second = linearizable(store, domain)
    assert not second._knows_absent("k")
    holder.confirm(revoke)
    writing.join()
    assert second["k"] == "new"


def test_views_look_at_the_clock_too(store: neardict.Store, domain: str, until: Until) -> None:
    d = linearizable(store, domain)
    until(lambda: d.fresh)
    d["k"] = 1
    for view in (d.keys(), d.values(), d.items()):
        until(lambda: dict.__contains__(d, "k"))
        d._lease = Lease()
        assert len(list(view)) == 1
        assert not dict.__contains__(d, "k"), "nothing is shown under a lease that is over"
        d._joined()


def test_a_holder_who_does_not_answer_delays_a_write_until_his_lease_is_over(
    store: neardict.Store, domain: str, holder: Holder
) -> None:
    begin = time.monotonic()
    store.set_value(domain, "k", 1)
    assert time.monotonic() - begin > 0.5
    # And no longer than that: the default deadline of the call is far beyond it.
    again = time.monotonic()
    store.set_value(domain, "k", 2)
    assert time.monotonic() - again < LEASE_SECONDS / 2


PROGRAM = """
import sys, neardict
d = neardict.connect(sys.argv[1]).dict(sys.argv[2], consistency="linearizable")
print("ready" if d.fresh or d.copy() is not None else "", flush=True)
for line in sys.stdin:
    print(d["k"], flush=True)
"""


def test_a_process_that_was_suspended_wakes_up_stale(
    store: neardict.Store, server: Served, domain: str
) -> None:
    store.set_value(domain, "k", "old")
    command = [sys.executable, "-c", PROGRAM, server.address, domain]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    with ended(started) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(3):
            os.kill(process.pid, signal.SIGSTOP)
            store.set_value(domain, "k", f"new {number}")  # returns when the lease is over
            process.stdin.write("\n")
            process.stdin.flush()
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout.readline() == f"new {number}\n"


@MODES
def test_a_closed_store_serves_nothing_and_holds_nobody_up(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until, load: bool
) -> None:
    d = linearizable(elsewhere, domain, load=load)
    d["k"] = 1
    until(lambda: dict.__contains__(d, "k"))
    elsewhere.close()
    begin = time.monotonic()
    store.set_value(domain, "k", 2)
    assert time.monotonic() - begin < LEASE_SECONDS / 2, "the lease was given back"
    with pytest.raises(neardict.ClosedError):
        d["k"]


def test_a_process_that_ends_holds_nobody_up(store: neardict.Store, server: Served, domain: str) -> None:
    store.set_value(domain, "k", 1)
    command = [sys.executable, "-c", PROGRAM, server.address, domain]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ready\n1\n"
    begin = time.monotonic()
    store.set_value(domain, "k", 2)
    assert time.monotonic() - begin < LEASE_SECONDS / 2


def test_while_the_service_is_away_nothing_is_served(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address, timeout=1) as store:
        d = linearizable(store, "d")
        d["k"] = 1
        until(lambda: dict.__contains__(d, "k"))
        own_server.kill()
        with pytest.raises(neardict.NeardictError):
            until(lambda: not d.fresh and d["k"])
        assert not d.fresh


def test_bounded_and_linearizable_dicts_of_one_domain_go_together(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    bounded = store.dict(domain)
    bounded["k"] = 1
    strict = linearizable(store, domain)
    until(lambda: bounded.fresh and strict.fresh)
    elsewhere.set_value(domain, "k", 2)
    assert strict["k"] == 2
    until(lambda: bounded["k"] == 2)
    bounded["k"] = 3
    assert strict["k"] == 3


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "neardict.toml").write_text(
        f"""
        [backends.redis]
        implementation = "redis"
        settings = {{ host = "{redis.host}", port = {redis.port} }}
        [backends.json]
        implementation = "json"
        [[routes]]
        domain = "redis.*"
        backend = "redis"
        [[routes]]
        domain = "json.*"
        backend = "json"
        """
    )
    with Served("--config", folder / "neardict.toml", "--data", folder / "data") as served:
        yield served


@pytest.mark.parametrize("backend", ["redis", "json"])
def test_a_backend_that_others_write_to_gives_no_leases(
    refusing: Served, domain: str, backend: str, until: Until
) -> None:
    name = f"{backend}.{domain}"
    with neardict.connect(refusing.address) as store:
        bounded = store.dict(name)
        with pytest.raises(neardict.CapabilityMissingError) as refused:
            store.dict(name, consistency="linearizable")
        assert refused.value.capability == "CAPABILITY_LEASES"
        assert "CAPABILITY_LEASES" in str(refused.value)
        # The others go on.
        until(lambda: bounded.fresh)
        store.set_value(name, "k", 1)
        assert bounded["k"] == 1


@pytest.mark.parametrize("backend", ["redis", "json"])
async def test_asyncio_is_refused_too(refusing: Served, domain: str, backend: str) -> None:
    async with aio.connect(refusing.address) as store:
        with pytest.raises(neardict.CapabilityMissingError):
            await store.dict(f"{backend}.{domain}", consistency="linearizable")


async def test_more_leases_than_a_connection_may_have_are_refused(tmp_path: Path, until: Until) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text("[limits]\nmax_connection_leases = 1\n")
    with Served("--config", config, "--data", tmp_path / "data") as served:
        with neardict.connect(served.address) as store:
            first = store.dict("first", consistency="linearizable")
            bounded = store.dict("second")
            with pytest.raises(neardict.CapabilityMissingError, match="max_connection_leases"):
                store.dict("second", consistency="linearizable")
            until(lambda: bounded.fresh and first.fresh)
        async with aio.connect(served.address) as other:
            await other.dict("first", consistency="linearizable")
            with pytest.raises(neardict.CapabilityMissingError, match="max_connection_leases"):
                await other.dict("second", consistency="linearizable")


def test_what_makes_no_sense_is_refused(server: Served, store: neardict.Store, domain: str) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="serve_stale"):
        store.dict(domain, consistency="linearizable", on_disconnect="serve_stale")
    with pytest.raises(neardict.InvalidArgumentError, match="bounded"):
        store.dict(domain, consistency="strong")  # type: ignore[call-overload]
    with (
        neardict.connect(server.address, watch=False) as quiet,
        pytest.raises(neardict.CapabilityMissingError, match="watch=True"),
    ):
        quiet.dict(domain, consistency="linearizable")


@MODES
async def test_with_asyncio_it_is_the_same(
    aio_store: aio.Store, elsewhere: neardict.Store, domain: str, load: bool
) -> None:
    d = await aio_store.dict(domain, consistency="linearizable", load=load)
    # In threads, since one that held up the loop would hold up its own confirmation.
    there = await asyncio.to_thread(linearizable, elsewhere, domain)
    for number in range(100):
        await d.set("k", number)
        assert await asyncio.to_thread(there.get, "k") == number
        await asyncio.to_thread(elsewhere.set_value, domain, "k", [number])
        assert await d.fetch("k") == [number]
        assert await d.get_many(["k"]) == {"k": [number]}
        assert await d.snapshot() == {"k": [number]}
    await d.delete("k")
    assert await asyncio.to_thread(there.get, "k") is None
    assert not await d.has("k")


@MODES
async def test_with_asyncio_what_was_written_is_shown_at_once(
    aio_store: aio.Store, domain: str, load: bool
) -> None:
    # The acknowledgement comes on one stream, and that the key may be shown again on another.
    d = await aio_store.dict(domain, consistency="linearizable", load=load)
    many = [f"many {number}" for number in range(20)]
    for number in range(10):
        await d.set("k", number)
        assert d["k"] == number
        await d.compare_and_set("k", [number], await revision_of(aio_store, domain))
        assert d["k"] == [number]
        await d.edit("k", lambda value: value.append("more"))
        assert d["k"] == [number, "more"]
        await d.touch("k", 60)
        assert d["k"] == [number, "more"]
        await d.update(dict.fromkeys(many, number))
        assert [d[key] for key in many] == [number] * len(many)
        await aio_store.set_value(domain, "k", number)
        await d.fetch("k")
        assert d["k"] == number
        await aio_store.set_many(domain, dict.fromkeys(many, "again"))
        await d.get_many(many)
        assert {d[key] for key in many} == {"again"}
        if load:
            assert dict(d) == {**dict.fromkeys(many, "again"), "k": number}
        assert await d.pop("k") == number
        await d.delete(many[0])
        await d.delete_many(many[:10])
        await aio_store.delete_many(domain, many[10:])
        if load:  # a cache knows of what it was told only when it has looked
            assert "k" not in d
            assert not any(key in d for key in many)
            assert dict(d) == {}


@pytest.fixture
async def written(aio_store: aio.Store, domain: str) -> Any:
    """A dict that holds k, and what begins a write of it that returns as soon as k is shown."""
    d = await aio_store.dict(domain, consistency="linearizable")
    await d.set("k", 1)

    async def write(**options: Any) -> asyncio.Task[Any]:
        writing = asyncio.create_task(aio_store.set_value(domain, "k", 2, **options))
        async with asyncio.timeout(20):
            while await d.fetch("k") != 2:  # applied, and acknowledged in a moment
                await asyncio.sleep(0.01)
        return writing

    return d, write


async def test_with_asyncio_a_write_waits_for_those_that_went_on_when_it_was_acknowledged(
    written: Any,
) -> None:
    d, write = written
    d.revoke("k", 1_000_001)  # as if others wrote it
    writing = await write()
    assert not (await asyncio.wait([writing], timeout=0.2))[0]
    d.revoke("k", 1_000_002)
    d.release("k", 1_000_001)
    async with asyncio.timeout(20):
        await writing
    with pytest.raises(neardict.NotHeldError):
        d["k"]
    d.release("k", 1_000_002)
    assert d["k"] == 2


async def test_with_asyncio_it_waits_no_longer_than_its_time_and_the_store(
    written: Any, aio_store: aio.Store
) -> None:
    d, write = written
    d.revoke("k", 1_000_001)
    async with asyncio.timeout(20):
        await (await write(timeout=1))
        assert "k" in d._revoked
        writing = await write(timeout=3600)
        session = aio_store.changes.session
        assert session is not None
        session._revoked[1_000_001] = d.domain, "k"
        await aio_store.close()
        await writing


@pytest.mark.parametrize("many", [False, True])
async def test_with_asyncio_a_write_that_fails_shows_what_there_is(written: Any, many: bool) -> None:
    d, _ = written
    for _ in range(10):
        if many:
            entries = {"k": 2, "x" * 2000: 1}  # a key that is too long
            with pytest.raises(neardict.BulkError):
                await d.update(entries)
            assert d["k"] == 2
        else:
            with pytest.raises(neardict.ConflictError):
                await d.compare_and_set("k", 3, 1)
            assert d["k"] == 1


async def test_with_asyncio_a_dict_is_kept_while_a_write_waits_for_it(
    aio_store: aio.Store, domain: str
) -> None:
    d = await aio_store.dict(domain, consistency="linearizable")
    await d.set("k", 1)
    d.revoke("k", 1_000_001)  # as if others wrote it
    writing = asyncio.create_task(aio_store.set_value(domain, "k", 2, timeout=3600))
    async with asyncio.timeout(20):
        while not cast("Any", d)._releases:
            await asyncio.sleep(0.01)
        kept = weakref.ref(d)
        del d
        gc.collect()
        held = kept()
        assert held is not None
        held.release("k", 1_000_001)
        await writing
