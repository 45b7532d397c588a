"""What a redis backend publishes: every change by whomever, once, in order, or word that some are lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.errors import BackendUnavailableError, CorruptEntryError
from redis_backend import DOMAIN, PLACE, opened, until_usable
from redis_ear import Ear, hearing
from redis_server import RedisServer

LOG = f"{PLACE}:changes"
IMPATIENT = {"connect_timeout_seconds": 0.4, "command_timeout_seconds": 0.4}


@pytest.fixture
async def ear(server: RedisServer) -> AsyncIterator[Ear]:
    async with hearing({"port": server.port, **IMPATIENT}) as ear:
        yield ear


async def test_writes_through_any_server_reach_every_server_in_order(server: RedisServer) -> None:
    generator = random.Random(3)
    async with hearing({"port": server.port}) as one, hearing({"port": server.port}) as two:
        for ear in (one, two):
            assert await ear.watch(DOMAIN) == base.Position(0, None)
        made = []
        for number in range(300):
            backend = generator.choice((one, two)).backend
            key = f"key {generator.randrange(5)}"
            if generator.random() < 0.3:
                deleted = await backend.delete_key(DOMAIN, key)
                if deleted.existed:
                    made.append(base.Change(key, deleted.revision, None))
            else:
                value: base.Value = generator.choice((f"[{number}]", b"\xff%d" % number))
                ttl = generator.choice((None, 10**10))
                written = await backend.set_value(DOMAIN, key, value, ttl=ttl)
                made.append(base.Change(key, written.revision, value, written.expires))
        for ear in (one, two):
            await ear.until_heard(DOMAIN, made[-1].revision)
            # Of a key that changed again before it was read, only the last change need be heard as it was.
            heard = {change.revision: change for change in ear.heard[DOMAIN]}
            assert heard.keys() <= {change.revision for change in made}
            assert all(heard[change.revision] == change for change in made if told(heard, change))
            assert latest(ear.heard[DOMAIN]) == latest(made)
            assert ear.lost == []


def told(heard: dict[int, base.Change], change: base.Change) -> bool:
    return change.revision in heard and heard[change.revision].told


def latest(changes: list[base.Change]) -> dict[str, base.Change]:
    return {change.key: change for change in changes}


async def test_what_fails_or_changes_nothing_is_not_heard(ear: Ear) -> None:
    await ear.watch(DOMAIN)
    first = await ear.backend.set_value(DOMAIN, "key", "1", request_id="r")
    await ear.until_heard(DOMAIN, first.revision)
    await ear.backend.set_value(DOMAIN, "key", "1", request_id="r")
    await ear.backend.delete_key(DOMAIN, "absent")
    last = await ear.backend.set_value(DOMAIN, "key", "2")
    await ear.until_heard(DOMAIN, last.revision)
    assert [change.revision for change in ear.heard[DOMAIN]] == [first.revision, last.revision]


async def test_large_and_damaged_values_are_heard_of_without_the_value(ear: Ear, admin: Any) -> None:
    await ear.watch(DOMAIN)
    large = await ear.backend.set_value(DOMAIN, "large", b"x" * base.TOLD_BYTES, ttl=10**10)
    await ear.until_heard(DOMAIN, large.revision)
    assert ear.heard[DOMAIN] == [base.Change("large", large.revision, "", large.expires, told=False)]
    position = await ear.watch(DOMAIN, 1)
    assert position.missed == ear.heard[DOMAIN]
    small = await ear.backend.set_value(DOMAIN, "key", "1")
    await admin.hset(PLACE, "key", f"{small.revision} 0 json {{")
    position = await ear.watch(DOMAIN, large.revision)
    assert position.missed == [base.Change("key", small.revision, "", told=False)]


async def test_who_comes_back_gets_what_he_missed(ear: Ear) -> None:
    first = await ear.backend.set_value(DOMAIN, "a", "1")
    assert await ear.watch(DOMAIN, first.revision) == base.Position(first.revision, [])
    second = await ear.backend.set_value(DOMAIN, "b", "2")
    await ear.backend.set_value(DOMAIN, "a", "3")
    third = await ear.backend.delete_key(DOMAIN, "a")
    missed = [base.Change("b", second.revision, "2"), base.Change("a", third.revision, None)]
    assert await ear.watch(DOMAIN, first.revision) == base.Position(third.revision, missed)
    # A client was told 1 for a domain that nothing was written to.
    assert await ear.watch(DOMAIN, 1) == base.Position(third.revision, missed)
    assert await ear.watch("empty", 1) == base.Position(0, [])


async def test_who_missed_much_gets_it_in_order(ear: Ear, backend: RedisBackend) -> None:
    began = await ear.backend.set_value(DOMAIN, "key", "0")
    await write_many(backend, [str(number % 1500) for number in range(3000)])
    position = await ear.watch(DOMAIN, began.revision)
    assert position.missed is not None
    revisions = [change.revision for change in position.missed]
    assert revisions == sorted(revisions)
    assert revisions[-1] == position.revision
    missed = latest(list(position.missed))
    assert len(missed) == 1500
    for key, change in missed.items():
        entry = (await ear.backend.get_value(DOMAIN, key)).entry
        assert entry is not None
        assert (change.revision, change.value) == (entry.revision, entry.value)


async def test_who_missed_more_than_the_log_holds_is_told_so(ear: Ear, admin: Any) -> None:
    first = await ear.backend.set_value(DOMAIN, "key", "1")
    second = await ear.backend.set_value(DOMAIN, "key", "2")
    third = await ear.backend.set_value(DOMAIN, "key", "3")
    await admin.xtrim(LOG, maxlen=1, approximate=False)
    assert (await ear.watch(DOMAIN, first.revision)).missed is None
    assert await ear.watch(DOMAIN, second.revision) == base.Position(
        third.revision, [base.Change("key", third.revision, "3")]
    )
    # The log goes some time after the last change, and who has seen that has missed nothing.
    await admin.delete(LOG)
    assert (await ear.watch(DOMAIN, second.revision)).missed is None
    assert await ear.watch(DOMAIN, third.revision) == base.Position(third.revision, [])


async def test_the_log_is_bounded_in_length_and_in_time(backend: RedisBackend, admin: Any) -> None:
    await write_many(backend, [f"key {number % 10}" for number in range(11_000)])
    assert 10_000 <= await admin.xlen(LOG) < 10_500
    assert 500 < await admin.ttl(LOG) <= 600
    assert await admin.memory_usage(LOG, samples=0) < 1_000_000


async def test_somebody_elses_revisions_are_not_continued(ear: Ear, admin: Any) -> None:
    lost = await ear.backend.set_value(DOMAIN, "key", "1")
    await admin.flushall()
    assert (await ear.watch(DOMAIN, lost.revision)).missed is None
    await ear.backend.set_value(DOMAIN, "other", "1")
    assert (await ear.watch(DOMAIN, lost.revision)).missed is None


async def test_expiry_is_heard_once_by_every_server(server: RedisServer) -> None:
    async with hearing({"port": server.port}) as one, hearing({"port": server.port}) as two:
        for ear in (one, two):
            await ear.watch(DOMAIN)
        keys = [f"key {number}" for number in range(600)]
        await asyncio.gather(*(one.backend.set_value(DOMAIN, key, "1", ttl=300_000) for key in keys))
        await one.backend.set_value(DOMAIN, "stays", "1")
        for ear in (one, two):
            heard = ear.heard[DOMAIN]
            await ear.until(lambda heard=heard: len(gone(heard)) >= len(keys))  # type: ignore[misc]  # mypy#15459
            assert sorted(gone(heard)) == sorted(keys)
        assert [page.keys async for page in one.backend.all_keys(DOMAIN)] == [["stays"]]


def gone(changes: list[base.Change]) -> list[str]:
    return [change.key for change in changes if change.value is None]


async def test_a_write_that_removes_what_has_expired_tells_it(ear: Ear, admin: Any) -> None:
    began = await ear.backend.set_value(DOMAIN, "brief", "1", ttl=1)
    written = await ear.backend.set_value(DOMAIN, "key", "1")
    position = await ear.watch(DOMAIN, began.revision)
    assert position.missed is not None
    assert [(change.key, change.value) for change in position.missed] == [("brief", None), ("key", "1")]
    assert position.missed[-1].revision == written.revision


async def test_a_domain_that_redis_dropped_whole_is_not_taken_for_unchanged(ear: Ear, admin: Any) -> None:
    written = await ear.backend.set_value(DOMAIN, "brief", "1", ttl=10**10)
    await ear.watch(DOMAIN)
    for name in await admin.keys(f"{PLACE}*"):
        await admin.pexpire(name, 1)
    await ear.until(lambda: ear.lost == [DOMAIN])
    assert (await ear.watch(DOMAIN, written.revision)).missed is None


async def test_only_a_recent_look_at_redis_makes_certain(ear: Ear, server: RedisServer) -> None:
    await ear.watch(DOMAIN)
    assert ear.backend.certain(DOMAIN)
    assert not ear.backend.certain("never watched")
    server.pause()
    await ear.until_certain(DOMAIN, certain=False)
    server.resume()
    await ear.until_certain(DOMAIN)
    written = await ear.backend.set_value(DOMAIN, "key", "1")
    await ear.until_heard(DOMAIN, written.revision)
    assert ear.lost == []


async def test_a_replica_does_not_make_certain(ear: Ear, server: RedisServer, admin: Any) -> None:
    await ear.watch(DOMAIN)
    await admin.replicaof(server.host, "1")
    await ear.until_certain(DOMAIN, certain=False)
    with pytest.raises(BackendUnavailableError):
        await ear.watch("another")
    await admin.replicaof("NO", "ONE")
    await ear.until_certain(DOMAIN)
    assert ear.lost == []


async def test_changes_are_heard_without_any_announcement(ear: Ear, server: RedisServer, admin: Any) -> None:
    await ear.watch(DOMAIN)
    # Nobody may announce, which hinders neither a write nor those who look.
    await admin.execute_command("ACL", "SETUSER", "default", "resetchannels")
    await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    written = await ear.backend.set_value(DOMAIN, "key", "1")
    await ear.until_heard(DOMAIN, written.revision)
    assert ear.heard[DOMAIN] == [base.Change("key", written.revision, "1")]


async def test_a_restarted_redis_is_continued() -> None:
    with RedisServer(durable=True) as server:
        async with hearing({"port": server.port, **IMPATIENT}) as ear, opened(server) as other:
            await ear.watch(DOMAIN)
            made = [await other.set_value(DOMAIN, "key", "1")]
            await ear.until_heard(DOMAIN, made[0].revision)
            server.kill()
            await ear.until_certain(DOMAIN, certain=False)
            server.start()
            made.append(await write(other, "2"))
            await ear.until_heard(DOMAIN, made[-1].revision)
            assert [change.revision for change in ear.heard[DOMAIN]] == [one.revision for one in made]
            await ear.until_certain(DOMAIN)
            assert ear.lost == []


async def test_a_redis_that_lost_everything_is_noticed_before_anything_else_is_written(
    ear: Ear, server: RedisServer
) -> None:
    await ear.backend.set_value(DOMAIN, "key", "1")
    await ear.watch(DOMAIN)
    server.kill()
    server.start()
    await ear.until(lambda: ear.lost == [DOMAIN])
    assert not ear.backend.certain(DOMAIN)


@pytest.mark.parametrize("rewritten", [False, True])
async def test_flushall_is_noticed(ear: Ear, admin: Any, rewritten: bool) -> None:
    await ear.backend.set_value(DOMAIN, "key", "1")
    await ear.watch(DOMAIN)
    await admin.flushall()
    if rewritten:
        await ear.backend.set_value(DOMAIN, "other", "1")
    await ear.until(lambda: ear.lost == [DOMAIN])
    assert not ear.backend.certain(DOMAIN)
    assert (await ear.watch(DOMAIN)).missed is None
    await ear.until_certain(DOMAIN)


@pytest.mark.parametrize("rewritten", [False, True])
async def test_an_older_copy_is_noticed(ear: Ear, admin: Any, rewritten: bool) -> None:
    kept = await ear.backend.set_value(DOMAIN, "key", "1")
    copy = {name: await admin.dump(name) for name in await admin.keys(f"{PLACE}*")}
    await ear.watch(DOMAIN)
    lost = await ear.backend.set_value(DOMAIN, "key", "2")
    await ear.until_heard(DOMAIN, lost.revision)
    async with admin.pipeline(transaction=True) as restoring:
        for name, dump in copy.items():
            restoring.restore(name, 0, dump, replace=True)
        await restoring.execute()
    if rewritten:
        assert (await ear.backend.set_value(DOMAIN, "other", "1")).revision > lost.revision
    await ear.until(lambda: ear.lost == [DOMAIN])
    assert (await ear.watch(DOMAIN, lost.revision)).missed is None
    missed = (await ear.watch(DOMAIN, kept.revision)).missed
    assert missed is not None
    assert [change.key for change in missed] == ["other"] * rewritten


async def test_a_trimmed_log_is_noticed_by_one_who_follows(ear: Ear, server: RedisServer, admin: Any) -> None:
    await ear.watch(DOMAIN)
    async with opened(server) as other, admin.pipeline(transaction=True) as hidden:
        # Both changes of the log at once, so that it cannot be read in between.
        hidden.set(f"{PLACE}:revision", 7)
        hidden.xadd(LOG, {"previous": "6", "what": "deleted", "key": "key"}, id="7-0")
        await hidden.execute()
        await ear.until(lambda: ear.lost == [DOMAIN])
        written = await other.set_value(DOMAIN, "key", "1")
        assert (await ear.watch(DOMAIN, 7)).missed == [base.Change("key", written.revision, "1")]


async def test_a_damaged_revision_ends_the_subscriptions_and_tells_why(ear: Ear, admin: Any) -> None:
    await ear.watch(DOMAIN)
    await admin.set(f"{PLACE}:revision", "x")
    await ear.until(lambda: ear.lost == [DOMAIN])
    with pytest.raises(CorruptEntryError, match="revision"):
        await ear.watch(DOMAIN)
    await admin.delete(f"{PLACE}:revision")
    await ear.watch(DOMAIN)
    written = await ear.backend.set_value(DOMAIN, "key", "1")
    await ear.until_heard(DOMAIN, written.revision)


async def test_a_revision_that_was_set_back_begins_the_log_anew(ear: Ear, admin: Any) -> None:
    ahead = (await ear.backend.set_value(DOMAIN, "key", "1")).revision + 10**9
    await admin.set(f"{PLACE}:revision", ahead)
    await ear.backend.set_value(DOMAIN, "key", "2")
    await admin.delete(f"{PLACE}:revision")
    async with opened_anew(ear) as other:
        written = await other.set_value(DOMAIN, "key", "3")
        assert written.revision < ahead
        assert (await ear.watch(DOMAIN, ahead + 1)).missed is None
        assert (await ear.watch(DOMAIN, written.revision)).missed == []


def opened_anew(ear: Ear) -> Any:
    """Opens a backend that has seen no revisions yet."""
    settings = ear.backend._client.nodes.listener().connection_pool.connection_kwargs
    server = RedisServer()
    server.port = settings["port"]
    return opened(server)


async def test_revisions_do_not_repeat_when_a_redis_with_a_slower_clock_takes_over(
    ear: Ear, server: RedisServer, admin: Any
) -> None:
    # Given out by a Redis whose clock was ahead of this one's: through us, and through another server.
    now = (await ear.backend.set_value(DOMAIN, "key", "1")).revision
    await admin.set(f"{PLACE}:revision", now + 10**8)
    last = (await ear.backend.set_value(DOMAIN, "key", "2")).revision
    await admin.flushall()
    assert (await ear.backend.set_value("another domain", "key", "3")).revision > last
    async with opened(server) as other:
        await ear.watch(DOMAIN)
        await admin.set(f"{PLACE}:revision", now + 2 * 10**8)
        last = (await other.set_value(DOMAIN, "key", "4")).revision
        await ear.until(lambda: ear.lost == [DOMAIN])
    await admin.flushall()
    assert (await ear.backend.set_value(DOMAIN, "key", "5")).revision > last


async def test_one_damaged_revision_does_not_push_all_others_ahead(ear: Ear, admin: Any) -> None:
    before = (await ear.backend.set_value("healthy", "key", "1")).revision
    await admin.set(f"{PLACE}:revision", 2**53 - 10)
    await ear.backend.set_value(DOMAIN, "key", "1")
    after = (await ear.backend.set_value("healthy", "key", "1")).revision
    assert before < after < before + 60 * 10**6


async def test_a_thousand_domains_are_followed_at_once(ear: Ear, server: RedisServer) -> None:
    domains = [f"domain {number}" for number in range(1000)]
    for domain in domains:
        await ear.watch(domain)
    async with opened(server) as other:
        last = {domain: (await other.set_value(domain, "key", "1")).revision for domain in domains}
    for domain in domains:
        await ear.until_heard(domain, last[domain])
        await ear.until_certain(domain)
    assert {domain: len(ear.heard[domain]) for domain in domains} == dict.fromkeys(domains, 1)


async def test_a_busy_domain_does_not_keep_others_from_being_certain(ear: Ear, server: RedisServer) -> None:
    await ear.watch("quiet")
    await ear.watch(DOMAIN)
    ended = asyncio.Event()

    async def keep_writing(backend: RedisBackend) -> None:
        while not ended.is_set():
            await backend.set_value(DOMAIN, "key", "1")

    async with opened(server) as other, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(keep_writing(other))
        began = len(ear.heard[DOMAIN])
        for _ in range(150):
            await asyncio.sleep(0.01)
            assert ear.backend.certain("quiet")
        assert len(ear.heard[DOMAIN]) > began
        ended.set()


async def test_domains_that_nobody_watches_any_more_are_not_followed(ear: Ear) -> None:
    await ear.watch(DOMAIN)
    await ear.watch("another")
    ear.domains.discard(DOMAIN)
    await ear.until_certain(DOMAIN, certain=False)
    written = await ear.backend.set_value(DOMAIN, "key", "1")
    other = await ear.backend.set_value("another", "key", "1")
    await ear.until_heard("another", other.revision)
    assert ear.heard[DOMAIN] == []
    assert (await ear.watch(DOMAIN, 1)).revision == written.revision
    assert ear.backend.certain(DOMAIN)


async def write_many(backend: RedisBackend, keys: list[str]) -> None:
    for start in range(0, len(keys), 50):
        await asyncio.gather(*(backend.set_value(DOMAIN, key, "1") for key in keys[start : start + 50]))


async def write(backend: RedisBackend, value: str) -> base.Written:
    await until_usable(lambda: backend.get_value(DOMAIN, "key"))
    return await backend.set_value(DOMAIN, "key", value)
