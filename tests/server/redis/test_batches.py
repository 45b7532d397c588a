"""redis: a batch is one script, in which each operation takes effect or changes nothing."""

import itertools
from collections.abc import Sequence
from typing import Any

from neardict_server.backends import base
from neardict_server.backends.base import Delete, Get, Set
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.redis.backend import MOST_OPERATIONS
from neardict_server.backends.redis.batches import LARGE_BYTES, MOST_BYTES
from neardict_server.backends.redis.scripts import KEPT_CHANGES
from neardict_server.errors import (
    BackendUnavailableError,
    ConditionFailedError,
    CorruptEntryError,
    InvalidRequestError,
    StorageFullError,
)
from redis_backend import DOMAIN, PLACE, value_of
from redis_server import RedisServer


async def calls(admin: Any, command: str) -> int:
    """Returns how often Redis has carried out the command."""
    stats: dict[str, dict[str, int]] = await admin.info("commandstats")
    return stats.get(f"cmdstat_{command}", {}).get("calls", 0)


async def log(admin: Any) -> list[tuple[int, int, bytes]]:
    """Returns revision, the one before and what of each change in the domain's log."""
    return [
        (int(name.split(b"-")[0]), int(fields[b"previous"]), fields[b"key"])
        for name, fields in await admin.xrange(f"{PLACE}:changes")
    ]


async def test_a_batch_is_one_script_and_one_announcement(backend: RedisBackend, admin: Any) -> None:
    await backend.execute(DOMAIN, [Set("a", "1"), Get("a")])
    scripts, announced = await calls(admin, "evalsha"), await calls(admin, "publish")
    outcomes = await backend.execute(
        DOMAIN, [*(Set(f"k{n}", str(n), request_id=f"r{n}") for n in range(60)), Get("a"), Delete("k1")]
    )
    assert await calls(admin, "evalsha") == scripts + 1
    assert await calls(admin, "publish") == announced + 1
    await backend.execute(DOMAIN, [Get(f"k{n}") for n in range(60)])
    assert await calls(admin, "evalsha") == scripts + 2
    # Each change is in the log, and names the one before.
    changes = await log(admin)
    revisions = [
        outcome.revision for outcome in outcomes if not isinstance(outcome, (base.Lookup, Exception))
    ]
    assert [change[0] for change in changes[1:]] == revisions
    assert all(one[0] == other[1] for one, other in itertools.pairwise(changes))
    assert int(await admin.get(f"{PLACE}:revision")) == revisions[-1]


async def test_names_and_values_of_any_bytes_and_sizes_stay_apart(backend: RedisBackend) -> None:
    sizes = [0, 1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES]
    keys = ["a b", "a\nb", "3 4\n", "=7", "get     1 0\n", "\u20ac\U0001f600" * 100]
    pairs = [(key, bytes([number]) * size) for key in keys for number, size in enumerate(sizes)]
    operations: list[base.Operation] = []
    for number, (key, value) in enumerate(pairs):
        operations += [Set(key, value, request_id=f"{number}"), Get(key)]
    outcomes = await backend.execute(DOMAIN, operations)
    assert values_in(outcomes[1::2]) == [value for _, value in pairs]
    assert values_in(await backend.execute(DOMAIN, [Get(key) for key in keys])) == [pairs[-1][1]] * len(keys)


def values_in(outcomes: Sequence[base.Outcome]) -> list[base.Value | None]:
    return [one.entry.value for one in outcomes if isinstance(one, base.Lookup) and one.entry is not None]


async def test_the_log_keeps_about_so_many_changes(backend: RedisBackend, admin: Any) -> None:
    for start in range(0, KEPT_CHANGES + 2000, 1000):
        await backend.execute(DOMAIN, [Set(f"k{n}", "1") for n in range(start, start + 1000)])
    assert KEPT_CHANGES <= await admin.xlen(f"{PLACE}:changes") < KEPT_CHANGES + 500


async def test_a_large_batch_goes_in_parts(backend: RedisBackend, admin: Any) -> None:
    operations = [Set(f"k{n}", str(n)) for n in range(2 * MOST_OPERATIONS + 1)]
    outcomes = await backend.execute(DOMAIN, operations)
    assert all(isinstance(outcome, base.Written) for outcome in outcomes)
    assert len(outcomes) == len(operations)


async def test_reads_of_much_do_not_keep_redis_from_others_for_long(
    backend: RedisBackend, admin: Any
) -> None:
    value = bytes(MOST_BYTES // 3)
    await backend.execute(DOMAIN, [Set(f"k{n}", value) for n in range(8)])
    scripts = await calls(admin, "evalsha")
    for also in ([], [Set("small", "1")]):
        found = await backend.execute(DOMAIN, [*(Get(f"k{n}") for n in range(8)), *also])
        assert all(
            isinstance(one, base.Lookup) and one.entry and one.entry.value == value for one in found[:8]
        )
        assert len(found) == 8 + len(also)
    assert await calls(admin, "evalsha") == scripts + 6


async def test_however_small_the_first_ones_are_not_much_more_is_read(
    backend: RedisBackend, admin: Any
) -> None:
    value = bytes(2 * MOST_BYTES)
    names = [f"small{n}" for n in range(20)]
    await backend.execute(DOMAIN, [Set(name, "1") for name in names])
    await backend.execute(DOMAIN, [Set(f"large{n}", value) for n in range(3)])
    before = await calls(admin, "evalsha")
    found = await backend.execute(DOMAIN, [Get(key) for key in (*names, "large0", "large1", "large2")])
    assert values_in(found) == ["1"] * 20 + [value] * 3
    assert await calls(admin, "evalsha") == before + 3


async def test_what_is_set_in_a_batch_counts_for_what_follows_in_it(backend: RedisBackend) -> None:
    large = bytes(2 * LARGE_BYTES)
    set_, first = await backend.execute(DOMAIN, [Set("k", "1"), Set("k", "2", condition=base.ABSENT)])
    assert isinstance(set_, base.Written)
    assert isinstance(first, ConditionFailedError)
    assert first.current_revision == set_.revision
    outcomes = await backend.execute(
        DOMAIN,
        [
            Set("k", large, condition=set_.revision, request_id="twice"),
            Set("k", large, request_id="twice"),
            Set("other", "1", request_id="twice"),
            Delete("k"),
            Get("k"),
        ],
    )
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[2], InvalidRequestError)
    assert isinstance(outcomes[3], base.Deleted)
    assert outcomes[3].existed
    assert isinstance(outcomes[4], base.Lookup)
    assert outcomes[4].entry is None


async def test_a_full_redis_refuses_what_needs_room_and_nothing_else(
    backend: RedisBackend, admin: Any
) -> None:
    await backend.execute(DOMAIN, [Set("a", "1"), Set("b", "1"), Set("c", "1")])
    await admin.config_set("maxmemory", 1)
    read, full, failed, deleted, still, absent, gone, last = await backend.execute(
        DOMAIN,
        [
            Get("a"),
            Set("a", "2", request_id="r1"),
            Set("a", "2", condition=base.ABSENT),
            Delete("b", request_id="r2"),
            # Also after a write, after which Redis itself would allow it.
            Set("d", "1"),
            Delete("absent", request_id="r3"),
            Get("b"),
            Set("a", "3", ttl=10**9),
        ],
    )
    assert isinstance(read, base.Lookup)
    assert read.entry is not None
    assert isinstance(failed, ConditionFailedError)
    for refused in (full, still, last):
        assert isinstance(refused, StorageFullError)
    assert isinstance(deleted, base.Deleted)
    assert deleted.existed
    assert absent == base.Deleted(existed=False, revision=deleted.revision)
    assert isinstance(gone, base.Lookup)
    assert gone.entry is None
    assert await admin.hkeys(PLACE) == [b"a", b"c"]
    assert [key for _, _, key in await log(admin)] == [b"a", b"b", b"c", b"b"]
    await admin.config_set("maxmemory", 0)
    again = await backend.execute(DOMAIN, [Set("a", "2", request_id="r1"), Delete("b", request_id="r2")])
    assert isinstance(again[0], base.Written)
    assert again[1] == deleted


async def test_expired_entries_make_room(backend: RedisBackend, admin: Any) -> None:
    await backend.execute(DOMAIN, [Set("a", "1"), Set("short", "1", ttl=1000)])
    while await value_of(backend, DOMAIN, "short") is not None:
        pass
    await admin.config_set("maxmemory", 1)
    made, deleted = await backend.execute(DOMAIN, [Set("b", "1"), Delete("a")])
    assert isinstance(made, base.Written)
    assert isinstance(deleted, base.Deleted)
    await admin.config_set("maxmemory", 0)
    assert await admin.hkeys(PLACE) == [b"b"]


async def test_a_replica_refuses_a_batch_that_writes_and_answers_reads(
    server: RedisServer, backend: RedisBackend, admin: Any
) -> None:
    await backend.set_value(DOMAIN, "a", "1")
    await admin.replicaof(server.host, "1")
    try:
        tried: list[list[base.Operation]] = [[Get("a"), Set("a", "2")], [Set("a", "2"), Delete("a")]]
        outcomes = [outcome for batch in tried for outcome in await backend.execute(DOMAIN, batch)]
        (read,) = await backend.execute(DOMAIN, [Get("a")])
    finally:
        await admin.replicaof("NO", "ONE")
    for refused in outcomes:
        assert isinstance(refused, BackendUnavailableError)
        assert "primary" in str(refused)
    assert isinstance(read, base.Lookup)
    assert read.entry is not None
    assert read.entry.value == "1"


async def test_a_corrupt_entry_hurts_its_operations_alone(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "bad", "1")
    await admin.hset(PLACE, "bad", "garbage")
    read, held, other, made, after = await backend.execute(
        DOMAIN,
        [Get("bad"), Set("bad", "2", condition=5), Set("good", "1"), Set("bad", "3"), Get("bad")],
    )
    assert isinstance(read, CorruptEntryError)
    assert isinstance(held, CorruptEntryError)
    assert isinstance(other, base.Written)
    assert isinstance(made, base.Written)
    assert isinstance(after, base.Lookup)
    assert after.entry == base.Entry("bad", "3", made.revision)
    await admin.hset(PLACE, "bad", "garbage")
    found = await backend.execute(DOMAIN, [Get("good"), Get("bad"), Get("absent")])
    assert [type(one) for one in found] == [base.Lookup, CorruptEntryError, base.Lookup]


async def test_where_names_are_in_use_by_another_program_nothing_is_changed(
    backend: RedisBackend, admin: Any
) -> None:
    for name in ("", ":keys", ":expiries", ":changes", ":requests:"):
        await admin.flushall()
        await admin.set(f"{PLACE}{name}", "a string")
        for alone in (False, True):
            writes = [Set("a", "1", request_id="r"), Set("b", "1", ttl=10**9)][: 1 if alone else 2]
            outcomes = await backend.execute(DOMAIN, writes)
            assert [type(outcome) for outcome in outcomes] == [CorruptEntryError] * len(writes)
            assert await admin.keys("*") == [f"{PLACE}{name}".encode()]


async def test_a_revision_that_is_no_number_fails_each(backend: RedisBackend, admin: Any) -> None:
    await backend.set_value(DOMAIN, "a", "1")
    await admin.set(f"{PLACE}:revision", "x")
    tried: list[list[base.Operation]] = [[Get("a"), Get("b")], [Get("a"), Set("a", "2")]]
    for operations in tried:
        outcomes = await backend.execute(DOMAIN, operations)
        assert [type(outcome) for outcome in outcomes] == [CorruptEntryError] * 2


async def test_a_redis_that_is_gone_fails_each(server: RedisServer, backend: RedisBackend) -> None:
    server.kill()
    try:
        outcomes = await backend.execute(DOMAIN, [Get("a"), Set("a", "1")])
    finally:
        server.start()
    assert [type(outcome) for outcome in outcomes] == [BackendUnavailableError] * 2


async def test_flushed_scripts_do_not_hurt_a_batch(backend: RedisBackend, admin: Any) -> None:
    await admin.script_flush()
    made, read = await backend.execute(DOMAIN, [Set("a", "1", request_id="r"), Get("a")])
    assert isinstance(made, base.Written)
    await admin.script_flush()
    assert list(await backend.execute(DOMAIN, [Get("a")])) == [read]
