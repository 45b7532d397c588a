"""Two servers on one Redis: what is written through either is in the dicts of the clients of both."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import neardict
from coherence.replicas import Replicas
from redis_cluster import RedisCluster
from redis_server import RedisServer
from waiting import DEADLINE_SECONDS

DOMAIN = "service_1.channel_7"
LOG = f"neardict:{{{DOMAIN}}}:changes"
# Of a client, three heartbeats; and of its server, whose own sight of Redis may be so old.
STALE_SECONDS = 3.0 + 1.0
MARGIN_SECONDS = 1.0


def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> float:
    """Returns how long it took until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        time.sleep(0.002)
    return time.monotonic() - began


def fresh_dicts(replicas: Replicas, domain: str = DOMAIN) -> list[neardict.CachedDict]:
    dicts = [store.dict(domain) for store in replicas.stores]
    until(lambda: all(d.fresh for d in dicts))
    return dicts


def revision_of(store: neardict.Store, key: str) -> int:
    entry = store.get_entry(DOMAIN, key)
    assert entry is not None
    return entry.revision


def show(dicts: list[neardict.CachedDict], key: str, value: object) -> bool:
    """Returns whether all hold the value, without a question to the service."""
    return all(dict.get(d, key) == value for d in dicts)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with RedisServer(durable=True) as engine, contextlib.closing(Replicas(tmp_path, engine)) as replicas:
        yield replicas


def test_a_write_through_one_server_is_in_the_dicts_of_the_other(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["alice"] = {"hp": 5}
    until(lambda: show(dicts, "alice", {"hp": 5}))
    two["alice"] = {"hp": 4}
    until(lambda: show(dicts, "alice", {"hp": 4}))
    one["large"] = "x" * 100_000
    until(lambda: two.get("large") == "x" * 100_000)
    del two["alice"]
    until(lambda: show(dicts, "alice", None))
    # Expiry, by the clock of Redis.
    replicas.stores[0].set_value(DOMAIN, "brief", 1, ttl=0.5)
    until(lambda: show(dicts, "brief", 1))
    until(lambda: show(dicts, "brief", None))


def test_a_killed_server_is_caught_up_by_its_clients(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["kept"] = {"hp": 5}
    one["changed"] = 1
    until(lambda: show(dicts, "changed", 1))
    held = two["kept"]
    replicas.servers[1].kill()
    until(lambda: not two.fresh)
    one["changed"] = 2
    one["new"] = 3
    del one["kept"]
    one["kept"] = {"hp": 5}
    replicas.restart(1)
    until(lambda: two.fresh and show(dicts, "changed", 2) and show(dicts, "new", 3))
    assert two == one == {"kept": {"hp": 5}, "changed": 2, "new": 3}
    assert two["kept"] is not held
    # What has not changed was not read again.
    held = two["kept"]
    replicas.servers[1].kill()
    until(lambda: not two.fresh)
    replicas.restart(1)
    until(lambda: two.fresh)
    assert dict.get(two, "kept") is held


def test_a_trimmed_log_makes_a_client_that_was_away_read_anew(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["deleted"] = 1
    until(lambda: show(dicts, "deleted", 1))
    replicas.servers[1].kill()
    until(lambda: not two.fresh)
    del one["deleted"]
    one["new"] = 1
    replicas.admin.xtrim(LOG, maxlen=1, approximate=False)
    replicas.restart(1)
    until(lambda: two.fresh)
    assert two == {"new": 1}


def test_clients_of_a_server_that_cannot_see_redis_know_it(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["key"] = 1
    until(lambda: show(dicts, "key", 1))
    replicas.engine.pause()
    assert until(lambda: not one.fresh and not two.fresh) < STALE_SECONDS + MARGIN_SECONDS
    assert dict.get(one, "key") is None
    replicas.engine.resume()
    until(lambda: one.fresh and two.fresh and show(dicts, "key", 1))
    two["key"] = 2
    until(lambda: show(dicts, "key", 2))


def test_a_killed_redis_is_continued_when_it_is_back(replicas: Replicas) -> None:
    one, _ = dicts = fresh_dicts(replicas)
    one["key"] = 1
    until(lambda: show(dicts, "key", 1))
    before = revision_of(replicas.stores[0], "key")
    replicas.engine.kill()
    until(lambda: not any(d.fresh for d in dicts))
    replicas.engine.start()
    until(lambda: all(d.fresh for d in dicts))
    assert show(dicts, "key", 1)
    one["key"] = 2
    until(lambda: show(dicts, "key", 2))
    assert revision_of(replicas.stores[1], "key") > before


def test_a_flushed_redis_empties_all_dicts(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["key"] = one["other"] = 1
    until(lambda: show(dicts, "other", 1))
    before = revision_of(replicas.stores[0], "other")
    replicas.admin.flushall()
    until(lambda: show(dicts, "key", None) and show(dicts, "other", None))
    one["other"] = 2
    until(lambda: two.get("other") == 2)
    assert revision_of(replicas.stores[0], "other") > before
    until(lambda: one == two == {"other": 2})


def test_an_older_copy_of_redis_is_in_all_dicts(replicas: Replicas) -> None:
    one, two = dicts = fresh_dicts(replicas)
    one["key"] = "older"
    copy = {name: replicas.admin.dump(name) for name in replicas.admin.keys("neardict:*")}
    one["key"] = "newer"
    one["lost"] = 1
    until(lambda: show(dicts, "lost", 1))
    with replicas.admin.pipeline(transaction=True) as restoring:
        for name, dump in copy.items():
            restoring.restore(name, 0, dump, replace=True)
        restoring.execute()
    until(lambda: one == two == {"key": "older"})
    until(lambda: one.fresh and two.fresh)
    two["key"] = "newest"
    until(lambda: one.get("key") == two.get("key") == "newest")


def test_a_killed_server_on_a_cluster_is_caught_up_by_its_clients(tmp_path: Path) -> None:
    with (
        RedisCluster() as cluster,
        contextlib.closing(Replicas(tmp_path, cluster.primaries[0], "settings.cluster = true")) as replicas,
    ):
        names = [f"{DOMAIN}.{number}" for number in range(30)]
        pairs = [fresh_dicts(replicas, name) for name in names]
        for one, two in pairs:
            one["left"], two["right"] = 1, 2
        until(lambda: all(show(pair, "left", 1) and show(pair, "right", 2) for pair in pairs))
        replicas.servers[1].kill()
        until(lambda: not any(two.fresh for _, two in pairs))
        for one, _ in pairs:
            one["left"] = 3
        replicas.restart(1)
        until(lambda: all(two.fresh and show([one, two], "left", 3) for one, two in pairs))
        assert all(one == two == {"left": 3, "right": 2} for one, two in pairs)


def test_a_thousand_domains_in_one_process(replicas: Replicas) -> None:
    names = [f"domain {number}" for number in range(1000)]
    mirrors = {name: replicas.stores[0].dict(name) for name in names}
    until(lambda: all(mirror.fresh for mirror in mirrors.values()))
    for number, name in enumerate(names):
        replicas.stores[1].set_value(name, "key", number)
    until(lambda: all(dict.get(mirrors[name], "key") == number for number, name in enumerate(names)))
