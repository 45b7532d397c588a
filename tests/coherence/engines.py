"""What several servers may share: one Redis, one that Sentinels watch over, or a Cluster."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import redis
from redis.crc import key_slot

from coherence.proxy import Proxy
from neardict_server.backends.redis.layout import entry_of, places_of
from redis_cluster import RedisCluster
from redis_sentinel import PASSWORD, SentinelGroup
from redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

DOMAIN = "soak.service_1"
PLACES = places_of("neardict", DOMAIN)


class Copy(NamedTuple):
    """What the domain held at a moment; its revisions before that are not above `revision`."""

    revision: int
    entries: dict[str, str]


class Engine(Protocol):
    """A context manager; in the end nothing is left of it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def settings(self) -> dict[str, Any]:
        """Returns what one more server is to be configured with."""

    def client(self) -> Any:
        """Returns a connection to the one that now has the domain; the caller closes it."""


class OneRedis:
    """A Redis that keeps what it has acknowledged; each server has a proxy to it."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self.server = RedisServer(durable=True)
        self.proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._opened.enter_context(self.server)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opened.close()

    def settings(self) -> dict[str, Any]:
        self.proxies.append(self._opened.enter_context(Proxy(f"{self.server.host}:{self.server.port}")))
        return {"port": int(self.proxies[-1].address.rpartition(":")[2])}

    def client(self) -> Any:
        return redis.Redis(port=self.server.port)

    def go_back_after(self, wait: Callable[[], None]) -> Copy:
        """Takes a copy of the domain, and after the wait replaces all that there is by it."""
        with contextlib.closing(self.client()) as client:
            with client.pipeline(transaction=True) as copying:
                copying.hgetall(PLACES.entries)
                for name in PLACES:
                    copying.dump(name)
                entries, *dumps = copying.execute()
            wait()
            with client.pipeline(transaction=True) as restoring:
                restoring.time()
                restoring.flushall()
                for name, dump in zip(PLACES, dumps, strict=True):
                    if dump is not None:
                        restoring.restore(name, 0, dump)
                moment, *_ = restoring.execute()
        return _copy(moment, entries)


class Sentinels:
    """A primary and its replica; what is written to the former is acknowledged before the latter has it."""

    def __init__(self) -> None:
        self._group = SentinelGroup()

    def __enter__(self) -> Self:
        self._group.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._group.close()

    def settings(self) -> dict[str, Any]:
        return self._group.settings

    def client(self) -> Any:
        return redis.Redis(port=self._group.primary.port, password=PASSWORD)

    def fail_over_after(self, wait: Callable[[], None]) -> Copy:
        """Kills the primary, whose replica has been given nothing for a while, and returns what that had.

        By then it has taken the primary's place, which is its replica.
        """
        group = self._group
        group.cut_replication()
        wait()
        group.primary.kill()
        copy = _survived(group.admin(group.replica))
        group.until_promoted()
        group.swap()
        return copy


class Cluster:
    """Six nodes, of which one primary has the domain."""

    def __init__(self) -> None:
        self._cluster = RedisCluster()

    def __enter__(self) -> Self:
        self._cluster.__enter__()
        self._slot = int(key_slot(PLACES.entries))
        self._owner = self._cluster.index_of(PLACES.entries.decode())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cluster.close()

    def settings(self) -> dict[str, Any]:
        return self._cluster.settings

    def client(self) -> Any:
        return redis.Redis(port=self._cluster.primaries[self._owner].port)

    def move(self) -> None:
        """Gives the domain to another primary, key by key."""
        target = (self._owner + 1) % len(self._cluster.primaries)
        self._cluster.move(self._slot, self._owner, target)
        self._owner = target

    def hand_over(self) -> None:
        """Has the replica take over from the domain's primary, which waits until it has everything."""
        self._cluster.admin(self._cluster.replicas[self._owner]).execute_command("CLUSTER FAILOVER")
        self._cluster.until_promoted(self._owner)
        self._cluster.swap(self._owner)

    def fail_over(self) -> Copy:
        """Kills the domain's primary; returns when the other is its replica, with what was left."""
        cluster = self._cluster
        cluster.primaries[self._owner].kill()
        replica = cluster.admin(cluster.replicas[self._owner])
        replica.execute_command("READONLY")
        copy = _survived(replica)
        cluster.until_promoted(self._owner)
        cluster.swap(self._owner)
        return copy


ENGINES: dict[str, Callable[[], Engine]] = {"redis": OneRedis, "sentinel": Sentinels, "cluster": Cluster}


def _survived(replica: Any) -> Copy:
    """Returns what a replica has whose primary is dead, before it takes over."""
    while replica.info("replication").get("master_link_status") == "up":
        time.sleep(0.001)
    with replica.pipeline(transaction=True) as reading:
        reading.role()
        reading.time()
        reading.hgetall(PLACES.entries)
        role, moment, entries = reading.execute()
    assert role[0] == b"slave", "it has taken over already"
    return _copy(moment, entries)


def _copy(moment: tuple[int, int], entries: dict[bytes, bytes]) -> Copy:
    now = moment[0] * 1_000_000 + moment[1]
    read = (entry_of(key.decode(), stored, now) for key, stored in entries.items())
    return Copy(now, {entry.key: json.loads(entry.value) for entry in read if entry is not None})
