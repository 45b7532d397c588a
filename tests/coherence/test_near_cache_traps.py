"""What near caches get wrong, each once: against a real server, with gates in place of luck."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import neardict
from coherence.checker import BOUND_SECONDS, H_SECONDS
from coherence.proxy import Proxy
from coherence.running import Server
from coherence.traps import DOMAIN, LargeWrites, Witness, eventually
from kinds import write_config
from neardict import _versions
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from neardict import CachedDict, Store
    from redis_server import RedisServer

# The stream's connection is opened before that of the calls.
STREAM = 0


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The backend; a test that is about more than the client names both."""
    return str(getattr(request, "param", "memory"))


both = pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)


@pytest.fixture
def server(kind: str, tmp_path: Path, redis: RedisServer) -> Iterator[Server]:
    """One that remembers little, so that a test need not write much to exceed it."""
    with Server(write_config(tmp_path, kind, redis), tmp_path / "data", "forgetful") as running:
        yield running


@pytest.fixture
def network(server: Server) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def store(network: Proxy) -> Iterator[Store]:
    """The client under test, behind the network."""
    with neardict.connect(network.address, timeout=2) as connected:
        yield connected


@pytest.fixture
def other(server: Server) -> Iterator[Store]:
    """Another client, whose network is good."""
    with neardict.connect(server.address) as connected:
        yield connected


@pytest.fixture
def near(store: Store, other: Store) -> CachedDict:
    """A mirror that is fresh and holds an entry."""
    other.set_value(DOMAIN, "k", "old")
    mirror = store.dict(DOMAIN)
    eventually(lambda: mirror.fresh)
    assert held(mirror) == {"k": "old"}
    return mirror


def held(cache: CachedDict) -> dict[str, Any]:
    """Returns what a hit would be served from: nothing is asked for."""
    return shown(cache)


def restart(server: Server, network: Proxy) -> None:
    server.kill()
    server.start()
    network.upstream = server.address


# Invalidation arrives before the reply that fills the cache.


@pytest.mark.parametrize("deleting", [False, True])
def test_a_reply_that_a_change_has_overtaken_does_not_fill_the_cache(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch, *, deleting: bool
) -> None:
    other.set_value(DOMAIN, "k", "old")
    cache = store.dict(DOMAIN, load=False)
    eventually(lambda: cache.fresh)
    witness = Witness(store)
    replied, release = threading.Event(), threading.Event()
    look_up = store.lookup

    def held_back(domain: str, key: str) -> pb.GetValueResponse:
        reply = look_up(domain, key)
        replied.set()
        assert release.wait(10)
        return reply

    monkeypatch.setattr(store, "lookup", held_back)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(cache.get, "k")
        assert replied.wait(10)
        if deleting:
            other.delete_key(DOMAIN, "k")
        else:
            other.set_value(DOMAIN, "k", "new")
        eventually(lambda: witness.keys == ["k"])
        release.set()
        reading.result(10)
    assert cache.get("k") == (None if deleting else "new")
    assert held(cache) == ({} if deleting else {"k": "new"})


def test_without_a_stream_a_look_up_does_not_answer_for_one_that_began_after_it(
    store: Store, other: Store, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.set_value(DOMAIN, "k", "old")
    cache = store.dict(DOMAIN, load=False)
    eventually(lambda: cache.fresh)
    network.silence(only=STREAM)
    eventually(lambda: not cache.fresh)
    replied, release = threading.Event(), threading.Event()
    look_up = store.lookup

    def first_held_back(domain: str, key: str) -> pb.GetValueResponse:
        reply = look_up(domain, key)
        if not replied.is_set():
            replied.set()
            assert release.wait(10)
        return reply

    monkeypatch.setattr(store, "lookup", first_held_back)
    with ThreadPoolExecutor() as threads:
        early = threads.submit(cache.get, "k")
        assert replied.wait(10)
        other.set_value(DOMAIN, "k", "new")
        late = threads.submit(cache.get, "k")
        threading.Event().wait(0.2)  # to let it join the early one, if it does
        release.set()
        early.result(10)
        assert late.result(10) == "new"


class Looking(Witness):
    """Told after the dict: sees what it shows under `k` after each change."""

    def __init__(self, store: Store, near: CachedDict) -> None:
        super().__init__(store)
        self._near = near
        self.shown: list[Any] = []

    def apply(self, change: Any) -> None:
        super().apply(change)
        self.shown.append(held(self._near).get("k"))


def test_a_change_that_is_late_does_not_bring_back_what_a_listing_has_left_out(
    near: CachedDict, store: Store, other: Store, network: Proxy
) -> None:
    other.delete_key(DOMAIN, "k")
    eventually(lambda: "k" not in held(near))
    witness = Looking(store, near)
    network.silence("down", only=STREAM)
    other.set_value(DOMAIN, "k", "late")
    other.delete_key(DOMAIN, "k")
    near.refresh()
    other.set_value(DOMAIN, "end", 1)
    network.heal()
    eventually(lambda: "end" in witness.keys)
    assert witness.keys.count("k") >= 1
    assert witness.shown == [None] * len(witness.shown)


@pytest.mark.parametrize("remembered", [10_000, 0])
def test_a_change_that_is_late_does_not_bring_back_what_was_deleted_here(
    near: CachedDict,
    store: Store,
    other: Store,
    network: Proxy,
    remembered: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_versions, "_FLOORS", remembered)
    near["another"] = 1
    witness = Looking(store, near)
    network.silence("down", only=STREAM)
    other.set_value(DOMAIN, "k", "late")
    del near["k"]
    del near["another"]  # makes the dict look through what it remembers of removals
    other.set_value(DOMAIN, "end", 1)
    network.heal()
    eventually(lambda: "end" in witness.keys)
    # The deletion as it was done, the write by the stream, and the deletion once more.
    assert witness.keys.count("k") >= 3
    deleted = witness.shown.index(None)
    assert witness.shown[deleted:] == [None] * len(witness.shown[deleted:])


# A lost push is never noticed; the stream dies silently.


def test_the_end_of_the_stream_is_noticed_at_once(near: CachedDict, server: Server) -> None:
    server.kill()
    eventually(lambda: not near.fresh, H_SECONDS)
    assert held(near) == {}
    with pytest.raises(neardict.NeardictError):
        near["k"]
    server.start()


def test_a_stream_that_went_silent_is_noticed_within_the_bound_and_replaced(
    near: CachedDict, other: Store, network: Proxy
) -> None:
    network.silence(only=STREAM)
    other.set_value(DOMAIN, "k", "new")
    eventually(lambda: not near.fresh, BOUND_SECONDS)
    assert held(near) == {}
    assert near["k"] == "new", "the service is asked, which can be reached"
    eventually(lambda: near.fresh, 5)
    assert held(near) == {"k": "new"}


def test_a_network_that_went_silent_serves_nothing_stale_and_recovers_by_itself(
    near: CachedDict, other: Store, network: Proxy
) -> None:
    network.silence()
    other.set_value(DOMAIN, "k", "new")
    eventually(lambda: held(near) == {}, BOUND_SECONDS)
    assert not near.fresh
    with pytest.raises(neardict.NeardictError):
        near["k"]
    network.heal()
    eventually(lambda: held(near) == {"k": "new"})
    assert near.fresh


@pytest.mark.parametrize("direction", ["up", "down"])
def test_half_of_a_connection_is_no_connection(
    near: CachedDict, other: Store, network: Proxy, direction: Any
) -> None:
    network.silence(direction, only=STREAM)
    other.set_value(DOMAIN, "k", "new")
    eventually(lambda: not near.fresh or held(near) == {"k": "new"}, BOUND_SECONDS)
    eventually(lambda: near.get("k") == "new")


def test_who_wants_stale_values_is_told_that_they_are(store: Store, other: Store, network: Proxy) -> None:
    other.set_value(DOMAIN, "k", "old")
    mirror = store.dict(DOMAIN, on_disconnect="serve_stale")
    eventually(lambda: mirror.fresh)
    network.silence()
    other.set_value(DOMAIN, "k", "new")
    eventually(lambda: not mirror.fresh, BOUND_SECONDS)
    assert mirror["k"] == "old"
    network.heal()
    eventually(lambda: mirror.fresh and mirror["k"] == "new")


# Reconnect flushes everything, or nothing.


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_restart_of_a_server_that_remembers_costs_no_reload(
    near: CachedDict, store: Store, other: Store, server: Server, network: Proxy
) -> None:
    near["kept"] = kept = ["the same object"]
    server.kill()
    eventually(lambda: held(near) == {})
    server.start()
    with neardict.connect(server.address) as another:
        another.set_value(DOMAIN, "k", "new")
    listings = counted(store, "pages")
    network.upstream = server.address
    eventually(lambda: near.fresh)
    assert held(near) == {"k": "new", "kept": kept}
    assert dict.get(near, "kept") is kept
    assert not listings


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
def test_a_restart_of_a_server_that_forgets_empties_the_dict(
    near: CachedDict, server: Server, network: Proxy
) -> None:
    restart(server, network)
    eventually(lambda: near.fresh)
    assert near.get("k") is None
    assert near == {}


@both
def test_a_connection_that_was_reset_costs_no_reload(
    near: CachedDict, store: Store, other: Store, network: Proxy
) -> None:
    near["kept"] = kept = ["the same object"]
    listings = counted(store, "pages")
    network.refusing = True
    network.cut()
    eventually(lambda: not near.fresh)
    other.set_value(DOMAIN, "k", "new")
    other.delete_key(DOMAIN, "absent")
    network.heal()
    eventually(lambda: near.fresh)
    assert held(near) == {"k": "new", "kept": kept}
    assert dict.get(near, "kept") is kept
    assert not listings


@both
def test_one_who_was_away_for_longer_than_the_log_reads_all_anew(
    near: CachedDict, store: Store, other: Store, network: Proxy
) -> None:
    network.refusing = True
    network.cut()
    eventually(lambda: not near.fresh)
    for _ in range(12):
        other.set_many(DOMAIN, {f"flood-{number}": number for number in range(100)})
    other.delete_key(DOMAIN, "k")
    network.heal()
    eventually(lambda: near.fresh)
    assert near.get("k") is None
    assert near == {f"flood-{number}": number for number in range(100)}


# The push handler throws, and the error is swallowed.


@both
def test_a_handler_that_throws_costs_the_stream_and_no_change(
    store: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Throwing(Witness):
        thrown = 0

        def apply(self, change: Any) -> None:
            super().apply(change)
            if not self.thrown:
                self.thrown += 1
                raise RuntimeError("a mistake of ours")

    other.set_value(DOMAIN, "k", "old")
    throwing = Throwing(store)  # told before the dict, which thus is not told
    mirror = store.dict(DOMAIN)
    eventually(lambda: mirror.fresh)
    with caplog.at_level(logging.ERROR, "neardict"):
        other.set_value(DOMAIN, "k", "new")
        eventually(lambda: throwing.thrown == 1)
        eventually(lambda: held(mirror) == {"k": "new"})
    assert mirror.fresh
    assert "the stream begins again" in caplog.text


# A slow consumer blocks the others.


@both
def test_one_who_does_not_read_delays_nobody_and_is_reset(
    near: CachedDict, other: Store, server: Server
) -> None:
    writes = LargeWrites(other)
    alone = writes.seconds()
    # That gRPC takes in little for one who does not read, however busy the machine.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 64 * 1024),
    ]
    with grpc.insecure_channel(server.address, options) as channel:
        subscribed = threading.Event()
        finished = threading.Event()

        def requests() -> Iterator[pb.WatchRequest]:
            yield pb.WatchRequest(subscribe=pb.Subscribe(domain=DOMAIN))
            finished.wait()

        call = storage_pb2_grpc.StorageServiceStub(channel).Watch(requests())
        assert next(call).WhichOneof("response") == "subscribed"
        subscribed.set()
        beside_it = max(writes.seconds() for _ in range(3))
        eventually(lambda: held(near).get(writes.last_key) == writes.last_value, BOUND_SECONDS)
        assert near.fresh
        received = [next(call).WhichOneof("response")]
        while received[-1] != "reset":
            received.append(next(call).WhichOneof("response"))
        call.cancel()
        finished.set()
    # Nobody would notice less, and a machine that is busy makes as much of a difference.
    assert beside_it < 5 * alone + 1


def test_a_client_that_was_too_slow_is_reset_and_converges(
    near: CachedDict, store: Store, other: Store, network: Proxy
) -> None:
    witness = Witness(store)
    network.silence("down", only=STREAM)
    writes = LargeWrites(other)
    for _ in range(5):  # more than all buffers between them hold
        writes.seconds()
    network.heal()
    eventually(lambda: near.fresh and near.get(writes.last_key) == writes.last_value)
    assert near == {entry.key: entry.value for entry in other.all_entries(DOMAIN)}
    assert witness.resets or witness.stales, "it was told, or gave the stream up"


# A quiet domain cannot prove that it is fresh.


def test_a_quiet_domain_stays_fresh(near: CachedDict, store: Store) -> None:
    witness = Witness(store)
    end = time.monotonic() + H_SECONDS + 1
    eventually(lambda: time.monotonic() > end)
    assert near.fresh
    assert witness.stales == 0, "not for a moment"
    assert witness.keys == []


# Expiry never reaches the clients.


@both
def test_expiry_reaches_the_caches_by_the_stream_too(near: CachedDict, store: Store, other: Store) -> None:
    witness = Witness(store)
    store.expiry.close()  # the clock of this machine may be wrong: what the service says must do
    other.set_value(DOMAIN, "brief", "value", ttl=0.3)
    eventually(lambda: "brief" in held(near) or len(witness.keys) > 1)
    eventually(lambda: "brief" not in held(near))
    assert witness.keys == ["brief", "brief"], "written, and expired"
    assert near.fresh
    assert "brief" not in near


def counted(store: Store, method: str) -> list[Any]:
    """Returns a list that grows with each call of the store's method from now on."""
    calls: list[Any] = []
    original = getattr(store, method)

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return original(*args, **options)

    setattr(store, method, counting)
    return calls
