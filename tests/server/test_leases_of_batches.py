"""Leases and batches: all keys of a batch are revoked together, and nobody serves what is not so any more."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from leased_service import DOMAIN, SECONDS, Clock, Service, confirm, kinds, sent, settle
from neardict.v1 import storage_pb2 as pb
from neardict_server.backends import base, batches
from neardict_server.backends.base import Delete, Get, Set
from neardict_server.backends.memory import MemoryBackend
from neardict_server.changes.leases import DRIFT

KEYS = ["a", "b", "c"]


class Unhurried(MemoryBackend):
    """Lets others run before each operation of a batch, as a backend may."""

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        outcomes: list[base.Outcome] = []
        for operation in operations:
            await asyncio.sleep(0)
            outcomes += await batches.one_by_one(self, domain, [operation])
        return outcomes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    service = Service(tmp_path, clock, memory=Unhurried)
    yield service
    await service.backend.close()


def revoked(messages: list[pb.WatchResponse]) -> list[str]:
    return [message.revoke.key for message in messages if message.HasField("revoke")]


async def test_each_key_is_revoked_once_and_all_wait_for_all(service: Service) -> None:
    holders = [await service.join() for _ in range(2)]
    for holder in holders:
        await sent(holder)
    batch = service.execute(Set("a", "1"), Get("b"), Set("a", "2"), Delete("c"), Get("a"))
    await settle()
    for holder in holders:
        messages = await sent(holder)
        assert revoked(messages) == ["a", "c"]
        for message in messages:
            await settle()
            assert not batch.done()
            assert (await service.memory.get_value(DOMAIN, "a")).entry is None
            confirm(holder, [message])
    first, b, second, deleted, a = await batch
    assert isinstance(first, base.Written)
    assert isinstance(second, base.Written)
    assert first.revision < second.revision
    assert isinstance(b, base.Lookup)
    assert b.entry is None
    assert deleted == base.Deleted(existed=False, revision=second.revision)
    assert a == base.Lookup(base.Entry("a", "2", second.revision), second.revision)
    for holder in holders:
        assert kinds(await sent(holder)) == ["changes", "release", "release"]
        assert holder.revokes == {}


async def test_to_confirm_one_key_many_times_is_not_to_confirm_another(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    batch = service.execute(Set("a", "1"), Set("b", "1"))
    await settle()
    one, other = await sent(holder)
    for _ in range(3):
        confirm(holder, [one])
    await settle()
    assert not batch.done()
    confirm(holder, [other])
    await batch


async def test_who_confirms_only_some_keys_is_waited_for_until_his_lease_is_over(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    batch = service.execute(Set("a", "1"), Set("b", "1"))
    await settle()
    confirm(holder, (await sent(holder))[:1])
    service.turn(SECONDS * DRIFT - 0.001)
    await settle()
    assert not batch.done()
    service.turn(0.002)
    await batch


async def test_who_joins_while_a_batch_runs_is_told_all_its_keys_before_he_holds_anything(
    service: Service,
) -> None:
    await service.leases.prepare()
    batch = service.execute(Set("a", "1"), Set("b", "1"), Delete("c"))
    while not service.leases._writes:
        await asyncio.sleep(0)
    holder = await service.join()
    messages = await sent(holder)
    assert kinds(messages) == ["revoke"] * 3 + ["subscribed"]
    assert revoked(messages) == KEYS
    # Nobody waits for him, who held nothing.
    await batch
    assert kinds(await sent(holder)) == ["changes"] + ["release"] * 3


async def test_reads_alone_revoke_nothing_and_wait_for_nobody(service: Service) -> None:
    await service.backend.set_value(DOMAIN, "a", "1")
    holder = await service.join()
    await sent(holder)
    (a, b) = await service.execute(Get("a"), Get("b"))
    assert isinstance(a, base.Lookup)
    assert a.entry is not None
    assert isinstance(b, base.Lookup)
    assert kinds(await sent(holder)) == []


async def test_without_holders_nothing_is_kept_of_a_batch(service: Service) -> None:
    await service.execute(Set("a", "1"), Get("a"), Delete("a"))
    assert not service.kept.exists()
    assert not service.leases._writes


async def test_a_batch_that_is_cancelled_releases_its_keys(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    batch = service.execute(Set("a", "1"), Set("b", "1"))
    await settle()
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    assert kinds(await sent(holder)) == ["revoke", "revoke", "release", "release"]
    assert holder.revokes == {}
    assert not service.leases._writes


async def test_reads_of_a_batch_wait_for_the_leases_of_the_process_before(
    tmp_path: Path, clock: Clock
) -> None:
    await Service(tmp_path, clock).join()
    after = Service(tmp_path, clock)
    # That memory has forgotten everything is a change too.
    batch = after.execute(Get("a"))
    await settle()
    assert not batch.done()
    batch.cancel()
    after.turn(SECONDS * DRIFT + 0.001)
    await after.execute(Get("a"))


class Holder:
    """A client that serves what it holds under its lease, as a linearizable dict does."""

    def __init__(self, service: Service, watcher: Any) -> None:
        self.service = service
        self.watcher = watcher
        self.held: dict[str, int] = {}
        self.revoked: dict[int, str] = {}
        self.unconfirmed: list[int] = []
        # By the numbers of pings: when they were sent. The subscription is one.
        self.pings = {0: service.clock.now}
        self.until = float("-inf")
        self.gone = False

    def serves(self) -> dict[str, int]:
        """Returns the keys that it serves from memory now, and of which revisions."""
        if self.service.clock.now >= self.until:
            return {}
        return {key: found for key, found in self.held.items() if key not in self.revoked.values()}

    async def catch_up(self) -> None:
        while self.watcher.waiting and not self.gone:
            await self.take()

    async def take(self) -> None:
        for message in await self.watcher.next() if self.watcher.waiting and not self.gone else ():
            which = message.WhichOneof("response")
            if which == "subscribed":
                self.until = self.pings[0] + SECONDS
            elif which == "heartbeat":
                self.until = max(self.until, self.pings[message.heartbeat.ping] + SECONDS)
            elif which == "reset":
                self.until = float("-inf")
                self.held.clear()
                self.gone = True
            elif which == "revoke":
                self.revoked[message.revoke.number] = message.revoke.key
                self.unconfirmed.append(message.revoke.number)
            elif which == "release":
                self.revoked.pop(message.release.number, None)
            elif which == "changes":
                for change in message.changes.changes:
                    self.held.pop(change.key, None)
                    if change.kind == pb.Change.KIND_SET:
                        self.held[change.key] = change.revision

    def confirm(self) -> None:
        if self.unconfirmed and not self.gone:
            number = self.unconfirmed.pop(0)
            self.watcher.confirmed(number)

    def ping(self) -> None:
        if self.until > float("-inf") and not self.gone:
            number = len(self.pings)
            self.pings[number] = self.service.clock.now
            self.watcher.lease_until = self.service.leases.term.end()
            self.watcher.put(pb.WatchResponse(heartbeat=pb.Heartbeat(ping=number)))

    async def read(self, key: str) -> None:
        """Fills the key, at one moment: nothing here waits."""
        entry = (await self.service.memory.get_value(DOMAIN, key)).entry
        may_hold = self.service.clock.now < self.until and key not in self.revoked.values()
        if entry is not None and may_hold and not self.gone:
            self.held[key] = entry.revision

    def vanish(self) -> None:
        """Goes on serving until its lease is over, and hears nothing any more."""
        if not self.gone:
            self.gone = True
            self.service.hub.unsubscribe(self.watcher, DOMAIN, served=True)

    def give_back(self) -> None:
        if not self.gone:
            self.gone, self.until = True, float("-inf")
            self.service.hub.unsubscribe(self.watcher, DOMAIN)


def check(service: Service, holders: list[Holder]) -> int:
    """Whoever serves a key serves what is stored: somebody else may have seen that already."""
    stored = service.memory._domains[DOMAIN].entries
    served = 0
    for holder in holders:
        for key, revision in holder.serves().items():
            assert key in stored, f"{key!r} was deleted"
            assert revision == stored[key].revision
            served += 1
    return served


def check_outcomes(operations: Sequence[base.Operation], outcomes: Sequence[base.Outcome]) -> None:
    """What a batch reads is no older than what it wrote before."""
    written: dict[str, int] = {}
    for operation, outcome in zip(operations, outcomes, strict=True):
        if isinstance(outcome, base.Lookup):
            assert outcome.domain_revision >= written.get(operation.key, 0)
        else:
            assert isinstance(outcome, (base.Written, base.Deleted))
            assert outcome.revision >= written.get(operation.key, 0)
            written[operation.key] = outcome.revision


@pytest.mark.parametrize("seed", range(16))
async def test_nobody_serves_what_is_not_stored_however_things_interleave(
    service: Service, clock: Clock, seed: int
) -> None:
    chance = random.Random(seed)
    holders: list[Holder] = []
    running: list[tuple[Sequence[base.Operation], asyncio.Task[Sequence[base.Outcome]]]] = []
    served = 0
    for key in KEYS:
        await service.memory.set_value(DOMAIN, key, "0")

    def operation() -> base.Operation:
        key = chance.choice(KEYS)
        choices: list[base.Operation] = [Get(key), Set(key, "1"), Set(key, "2"), Delete(key)]
        return chance.choice(choices)

    async def join() -> None:
        if sum(not holder.gone for holder in holders) < 3:
            holders.append(Holder(service, await service.join()))

    async def begin() -> None:
        if sum(not batch.done() for _, batch in running) < 4:
            operations = [operation() for _ in range(chance.randint(1, 5))]
            running.append((operations, service.execute(*operations)))

    async def some_holder() -> None:
        if holders:
            holder = chance.choice(holders)
            steps: list[Callable[[], Any]] = [
                *[holder.take] * 8,
                *[holder.catch_up] * 4,
                *[holder.confirm] * 8,
                *[holder.ping] * 6,
                *[lambda: holder.read(chance.choice(KEYS))] * 5,
            ]
            if chance.random() < 0.02:
                steps = [holder.vanish, holder.give_back]
            if (done := chance.choice(steps)()) is not None:
                await done

    async def pass_time() -> None:
        service.turn(chance.choice([0.01, 0.3, 1.0]))

    for _ in range(3000):
        await chance.choice([join, begin, begin, *[some_holder] * 20, pass_time])()
        served += check(service, holders)
        for _ in range(chance.randint(0, 2)):
            await asyncio.sleep(0)
            served += check(service, holders)
    while not all(batch.done() for _, batch in running):
        service.turn(1.0)
        await asyncio.sleep(0)
        check(service, holders)
    for operations, batch in running:
        check_outcomes(operations, await batch)
    assert served > 50
