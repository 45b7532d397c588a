"""A Redis Cluster: domains are spread over its nodes, and followed where they are."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from neardict_server.backends import base
from neardict_server.backends.base import Get, Set
from neardict_server.errors import BackendUnavailableError
from redis_backend import listed, opened, until_usable, value_of
from redis_cluster import RedisCluster
from redis_ear import Ear, hearing
from redis_server import RedisServer

IMPATIENT = {"connect_timeout_seconds": 0.4, "command_timeout_seconds": 0.4}
DOMAINS = [f"domain {number}" for number in range(60)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as running:
        yield running


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as running:
        yield running


async def test_changes_on_all_nodes_reach_every_server(cluster: RedisCluster) -> None:
    async with hearing(cluster.settings) as one, hearing(cluster.settings) as two:
        for domain in DOMAINS:
            for ear in (one, two):
                await ear.watch(domain)
        for domain in DOMAINS:
            await one.backend.set_value(domain, "a", "1", request_id="r", ttl=10**10)
            await two.backend.set_value(domain, "b", "2", condition=0)
            last = (await one.backend.delete_key(domain, "a")).revision
            for ear in (one, two):
                await ear.until_heard(domain, last)
                await ear.until_certain(domain)
            assert await listed(two.backend, domain) == ["b"]
        assert {cluster.index_of(domain_name(domain)) for domain in DOMAINS} == {0, 1, 2}
        assert one.lost == two.lost == []


async def test_a_slot_that_moves_takes_its_domains_along(cluster: RedisCluster) -> None:
    domain = "a domain that moves"
    slot = key_slot(domain_name(domain).encode())
    source = cluster.index_of(domain_name(domain))
    async with hearing(cluster.settings) as ear, hearing(cluster.settings) as other:
        await ear.watch(domain)
        for round_ in range(3):
            first = await other.backend.set_value(domain, "key", str(round_))
            await ear.until_heard(domain, first.revision)
            giving = (source + round_) % 3
            await asyncio.to_thread(cluster.move, slot, giving, (giving + 1) % 3)
            assert await value_of(other.backend, domain, "key") == str(round_)
            second = await other.backend.set_value(domain, "other", str(round_))
            await ear.until_heard(domain, second.revision)
            await ear.until_certain(domain)
        assert ear.lost == []


async def test_batches_on_all_nodes_at_once_go_on_while_a_slot_moves(cluster: RedisCluster) -> None:
    slot = key_slot(domain_name(DOMAINS[0]).encode())
    source = cluster.index_of(domain_name(DOMAINS[0]))
    async with opened(cluster.nodes[0], **cluster.settings) as backend:
        moves = [(source, (source + 1) % 3), ((source + 1) % 3, source)]
        rounds = 0
        for giving, taking in moves:
            moving = asyncio.create_task(asyncio.to_thread(cluster.move, slot, giving, taking))
            done = False
            while not done:
                done = moving.done()
                rounds += 1
                operations: list[base.Operation] = [
                    Set("key", str(rounds), request_id=f"r{rounds}"),
                    Get("key"),
                    Set("other", "1"),
                ]
                outcomes = await asyncio.gather(
                    *(backend.execute(domain, operations) for domain in DOMAINS),
                )
                for made, found, _ in outcomes:
                    assert isinstance(made, base.Written), made
                    assert isinstance(found, base.Lookup)
                    assert found.entry == base.Entry("key", str(rounds), made.revision)
            await moving
        lookups = await asyncio.gather(*(backend.get_value(domain, "key") for domain in DOMAINS))
        assert {lookup.entry.value for lookup in lookups if lookup.entry} == {str(rounds)}


async def test_a_node_that_is_down_stops_only_its_own_domains(own_cluster: RedisCluster) -> None:
    cluster = own_cluster
    settings = cluster.settings | IMPATIENT
    # Let it go on without the part that is down.
    for node in cluster.nodes:
        cluster.admin(node).config_set("cluster-require-full-coverage", "no")
    here, there = a_domain_on(cluster, 0), a_domain_on(cluster, 1)
    async with hearing(settings | {"port": cluster.primaries[2].port}) as ear:
        for domain in (here, there):
            await ear.watch(domain)
            await ear.backend.set_value(domain, "key", "1")
        cluster.replicas[0].kill()
        cluster.primaries[0].pause()
        await ear.until_certain(here, certain=False)
        for _ in range(100):
            await asyncio.sleep(0.01)
            assert ear.backend.certain(there)
        last = await ear.backend.set_value(there, "key", "2")
        await ear.until_heard(there, last.revision)
        with pytest.raises(BackendUnavailableError):
            await ear.backend.set_value(here, "key", "2")
        cluster.primaries[0].resume()
        await ear.until_certain(here)
        await write(ear, here, "3")
        assert ear.lost == []


async def test_a_failover_is_continued(own_cluster: RedisCluster) -> None:
    cluster = own_cluster
    settings = cluster.settings | IMPATIENT
    domain, other_domain = a_domain_on(cluster, 1), a_domain_on(cluster, 2)
    async with hearing(settings) as one, hearing(settings) as two:
        for ear in (one, two):
            await ear.watch(domain)
            await ear.watch(other_domain)
        first = await one.backend.set_value(domain, "key", "1")
        await asyncio.to_thread(cluster.until_replicated)
        cluster.primaries[1].kill()
        for ear in (one, two):
            await ear.until_certain(domain, certain=False)
        began = time.monotonic()
        await asyncio.to_thread(cluster.until_promoted, 1)
        for ear in (one, two):
            await ear.until_certain(domain)
            await ear.until_certain(other_domain)
        assert time.monotonic() - began < 15
        second = await write(two, domain, "2")
        assert second > first.revision
        for ear in (one, two):
            await ear.until_heard(domain, second)
            assert [change.value for change in ear.heard[domain]] == ["1", "2"]
            assert ear.lost == []


async def test_one_that_stands_alone_is_not_taken_for_a_cluster(server: RedisServer) -> None:
    with pytest.raises(ValueError, match="leave cluster out"):
        async with opened(server, cluster=True):
            pass


def domain_name(domain: str) -> str:
    return f"neardict:{{{domain}}}"


def a_domain_on(cluster: RedisCluster, index: int) -> str:
    return next(domain for domain in DOMAINS if cluster.index_of(domain_name(domain)) == index)


async def write(ear: Ear, domain: str, value: str) -> int:
    await until_usable(lambda: ear.backend.get_value(domain, "key"))
    return (await ear.backend.set_value(domain, "key", value)).revision
