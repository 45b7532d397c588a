"""What holds for many operations at once, also on a backend that takes them one by one."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from ..backends import base
from ..backends.base import ABSENT, KEEP, Backend, Capability, Delete, Get, Set
from ..backends.batches import execute
from ..errors import ConditionFailedError, InvalidRequestError
from .asking import list_keys, require, until_absent, value_of

# The values that the random batches write, and of how many keys.
_VALUES: list[base.Value] = ["1", b"\0raw\xff", '"text"']
_KEYS = ["a", "b", "é/.."]


class BatchContract:
    """A part of BackendContract."""

    async def test_a_batch_takes_effect_in_its_order(self, backend: Backend, domain: str) -> None:
        first, one, second, two, deleted, gone, again, last, third = await execute(
            backend,
            domain,
            [
                Set("key", "1"),
                Get("key"),
                Set("key", b"2"),
                Get("key"),
                Delete("key"),
                Get("key"),
                Delete("key"),
                Set("other", "3"),
                Get("other"),
            ],
        )
        revisions = [written(first), written(second), written(last)]
        assert revisions == sorted(set(revisions))
        assert entry_of(one) == base.Entry("key", "1", revisions[0])
        assert entry_of(two) == base.Entry("key", b"2", revisions[1])
        assert isinstance(deleted, base.Deleted)
        assert deleted.existed
        assert revisions[1] < deleted.revision < revisions[2]
        assert isinstance(gone, base.Lookup)
        assert gone.entry is None
        assert gone.domain_revision >= deleted.revision
        assert isinstance(again, base.Deleted)
        assert not again.existed
        assert again.revision >= deleted.revision
        assert entry_of(third) == base.Entry("other", "3", revisions[2])
        assert await list_keys(backend, domain) == ["other"]

    async def test_an_empty_batch_does_nothing(self, backend: Backend, domain: str) -> None:
        assert list(await execute(backend, domain, [])) == []

    async def test_a_batch_of_reads_finds_what_single_reads_find(self, backend: Backend, domain: str) -> None:
        keys = [f"k{number}" for number in range(100)]
        assert all(
            isinstance(outcome, base.Lookup) and outcome.entry is None
            for outcome in await execute(backend, domain, [Get(key) for key in keys])
        )
        for key in keys[::3]:
            await backend.set_value(domain, key, f'"{key}"')
        # Some of them twice.
        asked = [*keys, *keys[::7]]
        for key, outcome in zip(
            asked, await execute(backend, domain, [Get(key) for key in asked]), strict=True
        ):
            assert outcome == await backend.get_value(domain, key)

    async def test_each_operation_of_a_batch_fails_alone(self, backend: Backend, domain: str) -> None:
        made = written(await backend.set_value(domain, "there", "1"))
        outcomes = await execute(
            backend,
            domain,
            [
                Set("there", "2", condition=ABSENT),
                Set("new", "1", condition=ABSENT),
                Set("new", "2", condition=ABSENT),
                Delete("there", condition=made + 1),
                Get("there"),
                Delete("there", condition=made),
                Set("there", "3", condition=made),
                Set("there", "4", condition=ABSENT),
            ],
        )
        new, last = written(outcomes[1]), written(outcomes[7])
        for index, current in ((0, made), (2, new), (3, made), (6, ABSENT)):
            failed = outcomes[index]
            assert isinstance(failed, ConditionFailedError)
            assert failed.current_revision == current
        assert entry_of(outcomes[4]) == base.Entry("there", "1", made)
        assert isinstance(outcomes[5], base.Deleted)
        assert outcomes[5].existed
        assert (await backend.get_value(domain, "there")).entry == base.Entry("there", "4", last)
        assert await value_of(backend, domain, "new") == "1"

    async def test_a_batch_that_is_repeated_has_no_effect(self, backend: Backend, domain: str) -> None:
        operations: list[base.Operation] = [
            Set("a", "1", request_id="r1"),
            Set("b", "1", condition=ABSENT, request_id="r2"),
            Delete("a", request_id="r3"),
            Delete("c", request_id="r4"),
        ]
        first = await execute(backend, domain, operations)
        await backend.set_value(domain, "a", "2")
        await backend.delete_key(domain, "b")
        assert list(await execute(backend, domain, operations)) == list(first)
        # Among others too, and as single calls.
        mixed = [Set("c", "1"), operations[2], Get("a"), *operations[:2], Set("d", "1", request_id="r5")]
        outcomes = await execute(backend, domain, mixed)
        assert [outcomes[1], *outcomes[3:5]] == [first[2], *first[:2]]
        assert await backend.set_value(domain, "a", "1", request_id="r1") == first[0]
        assert await backend.set_value(domain, "d", "1", request_id="r5") == outcomes[5]
        assert await value_of(backend, domain, "a") == "2"
        assert sorted(await list_keys(backend, domain)) == ["a", "c", "d"]

    async def test_an_id_twice_in_a_batch_writes_once(self, backend: Backend, domain: str) -> None:
        one, between, two, reused, deleted = await execute(
            backend,
            domain,
            [
                Set("key", "1", request_id="r1"),
                Set("key", "2"),
                Set("key", "1", request_id="r1"),
                Set("other", "1", request_id="r1"),
                Delete("key", request_id="r1"),
            ],
        )
        assert one == two
        assert written(one) < written(between)
        for refused in (reused, deleted):
            assert isinstance(refused, InvalidRequestError)
            assert refused.reason == "REQUEST_ID_REUSED"
        assert await value_of(backend, domain, "key") == "2"
        assert await list_keys(backend, domain) == ["key"]

    async def test_what_failed_in_a_batch_is_tried_again_by_its_id(
        self, backend: Backend, domain: str
    ) -> None:
        failed, _, made, same = await execute(
            backend,
            domain,
            [
                Set("key", "1", condition=7, request_id="r1"),
                Get("key"),
                Set("key", "1", condition=ABSENT, request_id="r1"),
                Set("key", "1", condition=ABSENT, request_id="r1"),
            ],
        )
        assert isinstance(failed, ConditionFailedError)
        assert written(made) == written(same)

    async def test_an_id_in_many_batches_and_calls_at_once_writes_once(
        self, backend: Backend, domain: str
    ) -> None:
        operation = Set("key", "1", request_id="same")
        calls = [
            *(execute(backend, domain, [Set(f"k{n}", "1"), operation, Get("key")]) for n in range(5)),
            *(execute(backend, domain, [operation, Set(f"m{n}", "1")]) for n in range(5)),
        ]
        single = asyncio.create_task(backend.set_value(domain, "key", "1", request_id="same"))
        outcomes = await asyncio.gather(*calls)
        results = {written(batch[1]) for batch in outcomes[:5]} | {
            written(batch[0]) for batch in outcomes[5:]
        }
        assert results == {(await single).revision}

    async def test_entries_of_a_batch_expire(self, backend: Backend, domain: str) -> None:
        require(backend, Capability.TTL)
        short, kept, read, lasting, cleared = await execute(
            backend,
            domain,
            [
                Set("short", "1", ttl=50_000),
                Set("kept", "1", ttl=3600 * 10**6),
                Get("kept"),
                Set("cleared", "1", ttl=50_000),
                Set("cleared", "2"),
            ],
        )
        assert isinstance(short, base.Written)
        assert short.expires is not None
        assert isinstance(kept, base.Written)
        assert kept.expires is not None
        assert kept.expires > short.expires
        assert entry_of(read) == base.Entry("kept", "1", kept.revision, kept.expires)
        assert isinstance(lasting, base.Written)
        assert isinstance(cleared, base.Written)
        assert cleared.expires is None
        await until_absent(backend, domain, "short")
        gone, there, failed, deleted, made = await execute(
            backend,
            domain,
            [
                Get("short"),
                Get("cleared"),
                Set("short", "2", condition=short.revision),
                Delete("short"),
                Set("short", "2", condition=ABSENT),
            ],
        )
        assert isinstance(gone, base.Lookup)
        assert gone.entry is None
        assert entry_of(there).value == "2"
        assert isinstance(failed, ConditionFailedError)
        assert isinstance(deleted, base.Deleted)
        assert not deleted.existed
        assert written(made) > short.revision

    async def test_operations_of_a_batch_keep_the_ttl(self, backend: Backend, domain: str) -> None:
        require(backend, Capability.TTL)
        before = await backend.set_value(domain, "before", "1", ttl=3600 * 10**6)
        kept, failed, made, again, there, _, gone, permanent, last = await execute(
            backend,
            domain,
            [
                Set("before", "2", ttl=KEEP),
                Set("key", "1", ttl=KEEP),
                Set("key", "2", ttl=1800 * 10**6),
                Set("key", "3", ttl=KEEP),
                Get("key"),
                Delete("key"),
                Set("key", "4", ttl=KEEP),
                Set("key", "5"),
                Set("key", "6", ttl=KEEP),
            ],
        )
        assert isinstance(kept, base.Written)
        assert kept.expires == before.expires
        for failure in (failed, gone):
            assert isinstance(failure, ConditionFailedError)
            assert failure.current_revision == ABSENT
        assert isinstance(made, base.Written)
        assert made.expires is not None
        assert isinstance(again, base.Written)
        assert entry_of(there) == base.Entry("key", "3", again.revision, made.expires)
        for forever in (permanent, last):
            assert isinstance(forever, base.Written)
            assert forever.expires is None

    async def test_a_batch_may_be_large(self, backend: Backend, domain: str) -> None:
        keys = [f"key-{number:03}" for number in range(256)]
        values: list[base.Value] = [f'"{"x" * (number * 40)}"' for number in range(255)]
        values.append(b"\0" * 1024 * 1024)
        outcomes = await execute(
            backend,
            domain,
            [Set(key, value, request_id=f"id-{key}") for key, value in zip(keys, values, strict=True)],
        )
        revisions = [written(outcome) for outcome in outcomes]
        assert revisions == sorted(set(revisions))
        found = await execute(backend, domain, [Get(key) for key in keys])
        assert [(entry_of(one).value, entry_of(one).revision) for one in found] == list(
            zip(values, revisions, strict=True)
        )
        deleted = await execute(backend, domain, [Delete(key) for key in keys])
        assert all(isinstance(one, base.Deleted) and one.existed for one in deleted)
        assert await list_keys(backend, domain) == []

    async def test_batches_at_once_do_not_mix(self, backend: Backend, domain: str) -> None:
        await backend.set_value(domain, "counter", "0")

        async def increment(number: int) -> None:
            while True:
                entry = entry_of((await execute(backend, domain, [Get("counter")]))[0])
                value = str(int(entry.value) + 1)
                mine, counted, others = await execute(
                    backend,
                    domain,
                    [
                        Set(f"k{number}", value),
                        Set("counter", value, condition=entry.revision),
                        Get(f"k{number}"),
                    ],
                )
                assert entry_of(others) == base.Entry(f"k{number}", value, written(mine))
                if isinstance(counted, base.Written):
                    return
                assert isinstance(counted, ConditionFailedError)

        await asyncio.gather(*map(increment, range(8)))
        assert await value_of(backend, domain, "counter") == "8"

    async def test_batches_on_many_domains_at_once_are_separate(self, backend: Backend, domain: str) -> None:
        domains = [f"{domain}.{number}" for number in range(20)]
        outcomes = await asyncio.gather(
            *(
                execute(backend, name, [Get("key"), Set("key", f'"{name}"', condition=ABSENT), Get("key")])
                for name in domains
            )
        )
        for name, (before, made, after) in zip(domains, outcomes, strict=True):
            assert isinstance(before, base.Lookup)
            assert before.entry is None
            assert entry_of(after) == base.Entry("key", f'"{name}"', written(made))
            assert await list_keys(backend, name) == ["key"]

    async def test_a_batch_that_is_cancelled_leaves_whole_writes(self, backend: Backend, domain: str) -> None:
        for number in range(10):
            operations = [Set(f"{number}-{n}", f'"{n}"', request_id=f"{number}-{n}") for n in range(5)]
            batch = asyncio.ensure_future(execute(backend, domain, operations))
            for _ in range(number):
                await asyncio.sleep(0)
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)
            results = [written(outcome) for outcome in await execute(backend, domain, operations)]
            found = [
                entry_of(one) for one in await execute(backend, domain, [Get(op.key) for op in operations])
            ]
            assert [entry.value for entry in found] == [op.value for op in operations]
            assert [entry.revision for entry in found] == results

    @pytest.mark.parametrize("seed", range(4))
    async def test_a_batch_does_what_its_operations_do_one_by_one(
        self, backend: Backend, domain: str, seed: int
    ) -> None:
        chance = random.Random(seed)  # noqa: S311  # no secrets
        whole, single = f"{domain}.whole", f"{domain}.single"
        # What is to be compared: revisions differ, but not which write they are of.
        of_whole: dict[int, int] = {ABSENT: 0}
        of_single: dict[int, int] = {ABSENT: 0}
        for number in range(8):
            pairs = [_operation(chance, of_whole, of_single) for _ in range(chance.randint(1, 30))]
            outcomes = list(await execute(backend, whole, [pair[0] for pair in pairs]))
            expected = [(await _one(backend, single, pair[1])) for pair in pairs]
            shapes = [_shape(outcome, of_whole) for outcome in outcomes]
            assert shapes == [_shape(outcome, of_single) for outcome in expected], number
        assert sorted(await list_keys(backend, whole)) == sorted(await list_keys(backend, single))


def written(outcome: base.Outcome) -> int:
    """Returns the revision of a set that succeeded."""
    assert isinstance(outcome, base.Written), outcome
    return outcome.revision


def entry_of(outcome: base.Outcome) -> base.Entry:
    """Returns what a get has found."""
    assert isinstance(outcome, base.Lookup), outcome
    assert outcome.entry is not None
    return outcome.entry


async def _one(backend: Backend, domain: str, operation: base.Operation) -> base.Outcome:
    (outcome,) = await execute(backend, domain, [operation])
    return outcome


def _operation(
    chance: random.Random, of_whole: dict[int, int], of_single: dict[int, int]
) -> tuple[base.Operation, base.Operation]:
    """Returns the same operation for two domains, with the condition that means the same there."""
    key = chance.choice(_KEYS)
    request_id = chance.choice(["", "", *(f"id-{number}" for number in range(12))])
    which = chance.choice([None, None, *range(len(of_whole))])
    conditions = [None if which is None else list(of)[which] for of in (of_whole, of_single)]
    kind = chance.choice(["get", "set", "set", "delete"])
    value = chance.choice(_VALUES)
    made: list[base.Operation] = []
    for condition in conditions:
        if kind == "get":
            made.append(Get(key))
        elif kind == "set":
            made.append(Set(key, value, None, condition, request_id))
        else:
            made.append(Delete(key, condition or None, request_id))
    return made[0], made[1]


def _shape(outcome: base.Outcome, numbers: dict[int, int]) -> Sequence[object]:
    """Returns what must be the same, with revisions of entries by the number of their write."""
    if isinstance(outcome, base.Written):
        return "written", numbers.setdefault(outcome.revision, len(numbers))
    if isinstance(outcome, base.Deleted):
        return "deleted", outcome.existed
    if isinstance(outcome, base.Lookup):
        found = outcome.entry
        return "found", found and (found.key, found.value, numbers.setdefault(found.revision, len(numbers)))
    if isinstance(outcome, ConditionFailedError):
        current = outcome.current_revision
        return "condition", numbers.setdefault(current, len(numbers))
    assert isinstance(outcome, InvalidRequestError), outcome
    return "refused", outcome.reason
