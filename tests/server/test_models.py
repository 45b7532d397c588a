"""Each backend against a model of it, through arbitrary sequences of operations.

The model is a dict with the rules of `backends.base`. Where the rules leave it open what happens, which is
only when the clock went back over an expiry, the model asks the backend and holds it to its answer.
"""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kinds import TYPES
from kinds import settings as settings_of
from model import Clock, Domain, Done, Stored, condition_of
from neardict_server.backends import base, batches
from neardict_server.backends.base import ABSENT, Capability
from neardict_server.backends.request_ids import WINDOW, RequestIds
from neardict_server.errors import ConditionFailedError, InvalidRequestError
from redis_server import RedisServer

_Result = TypeVar("_Result")

SECOND = 1_000_000
DOMAINS = ["one", "one.two"]
KEYS = ["a", "A", "a/../é", "ab\U0001f600", "b"]
PREFIXES = ["", "a", "a/", "b", "ab\U0001f600"]
TTLS = [None, None, 1, SECOND, 10 * SECOND]
STEPS = [1, SECOND - 1, SECOND, 10 * SECOND, WINDOW - 1, WINDOW, -1, -SECOND, -WINDOW]
VALUES: list[base.Value] = ["null", '{"n": 9007199254740993}', '"é"', b"", b"\0\xff", "[1, 2]"]
# Without a disk to wait for, where there is such a place.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
EXAMPLES = {"memory": 150, "sqlite": 80, "json": 25, "redis": 30}


class Machine(RuleBasedStateMachine):
    """A subclass says of which backend."""

    kind: str
    redis: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.type = TYPES[self.kind]
        self.capabilities = self.type.capabilities
        self.settings = self.type.Settings.model_validate(settings_of(self.kind, self.redis))
        # Those that keep time themselves cannot be shown another.
        self.turnable = self.kind != "redis"
        self.survives = self.kind != "memory"
        self.clock = Clock()
        self.folder = Path(tempfile.mkdtemp(prefix="neardict-model-", dir=IN_MEMORY))
        self.prefix = uuid.uuid4().hex
        self.domains = {f"{self.prefix}.{name}": Domain() for name in DOMAINS}
        self.loop = asyncio.new_event_loop()

    @initialize()
    def open(self) -> None:
        surroundings = base.Surroundings(self.folder, self.clock)
        backend: base.Backend = self.run(self.type.open(self.settings, surroundings))
        if Capability.DURABLE_REQUEST_ID not in self.capabilities:
            backend = RequestIds(backend, self.clock)
        self.backend = backend

    def teardown(self) -> None:
        self.run(self.backend.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, awaitable: Awaitable[_Result]) -> _Result:
        async def bounded() -> _Result:
            async with asyncio.timeout(20):
                return await awaitable

        return self.loop.run_until_complete(bounded())

    domains_drawn = st.sampled_from(DOMAINS)
    keys = st.sampled_from(KEYS)
    conditions = st.sampled_from(["none", "none", "absent", "current", "stale"])
    # Which of the earlier request ids to use again, or a fresh one, or none.
    requests = st.sampled_from(["none", "none", "fresh", "again", "again"])

    @rule(
        name=domains_drawn,
        key=keys,
        value=st.sampled_from(VALUES),
        ttl=st.sampled_from(TTLS),
        condition=conditions,
        request=requests,
        choice=st.integers(0, 99),
    )
    def set_value(
        self,
        name: str,
        key: str,
        value: base.Value,
        ttl: int | None,
        condition: str,
        request: str,
        choice: int,
    ) -> None:
        domain = f"{self.prefix}.{name}"
        ttl = self.possible(ttl)
        known = self.domains[domain]
        present = self.present(domain, key)
        wanted = condition_of(condition, present)
        request_id = known.request_id(request, choice)
        call = self.backend.set_value(domain, key, value, ttl=ttl, condition=wanted, request_id=request_id)
        if not self.takes_effect(call, known, ("set", key), wanted, present, request_id):
            return
        written = self.run(call)
        self.check_new_revision(known, written.revision)
        assert written.expires == (None if ttl is None else self.clock.now + ttl)
        known.entries[key] = Stored(value, written.revision, written.expires)
        if request_id:
            known.done[request_id] = Done(("set", key), written, self.clock.now)

    @rule(name=domains_drawn, key=keys, condition=conditions, request=requests, choice=st.integers(0, 99))
    def delete_key(self, name: str, key: str, condition: str, request: str, choice: int) -> None:
        domain = f"{self.prefix}.{name}"
        known = self.domains[domain]
        present = self.present(domain, key)
        # There is no deletion of what must be absent.
        wanted = condition_of(condition, present) or None
        request_id = known.request_id(request, choice)
        call = self.backend.delete_key(domain, key, condition=wanted, request_id=request_id)
        if not self.takes_effect(call, known, ("delete", key), wanted, present, request_id):
            return
        deleted = self.run(call)
        assert deleted.existed == (present is not None)
        if deleted.existed:
            self.check_new_revision(known, deleted.revision)
        else:
            assert deleted.revision >= known.revision
            known.revision = deleted.revision
        known.entries.pop(key, None)
        if request_id:
            known.done[request_id] = Done(("delete", key), deleted, self.clock.now)

    @rule(
        name=domains_drawn,
        drawn=st.lists(
            st.tuples(
                st.sampled_from(["get", "set", "set", "delete"]),
                keys,
                st.sampled_from(VALUES),
                st.sampled_from(TTLS),
                conditions,
                requests,
                st.integers(0, 99),
            ),
            max_size=12,
        ),
    )
    def execute(self, name: str, drawn: list[tuple[str, str, base.Value, int | None, str, str, int]]) -> None:
        domain = f"{self.prefix}.{name}"
        known = self.domains[domain]
        before = {key: self.present(domain, key) for key in KEYS}
        operations: list[base.Operation] = []
        for kind, key, value, ttl, condition, request, choice in drawn:
            # Conditions are of what was there before the batch: some of them do not hold any more.
            wanted = condition_of(condition, before[key])
            request_id = known.request_id(request, choice)
            if kind == "get":
                operations.append(base.Get(key))
            elif kind == "set":
                operations.append(base.Set(key, value, self.possible(ttl), wanted, request_id))
            else:
                operations.append(base.Delete(key, wanted or None, request_id))
        outcomes = self.run(batches.execute(self.backend, domain, operations))
        for operation, outcome in zip(operations, outcomes, strict=True):
            self.check_outcome(known, operation, outcome)

    def check_outcome(self, known: Domain, operation: base.Operation, outcome: base.Outcome) -> None:
        """Holds the outcome of one operation of a batch to what the model knows after those before it."""
        key = operation.key
        stored = known.entries.get(key)
        if stored is not None and stored.is_over(self.clock.now):
            stored = None
        if isinstance(operation, base.Get):
            assert isinstance(outcome, base.Lookup)
            assert outcome.domain_revision >= known.revision
            known.revision = outcome.domain_revision
            assert (outcome.entry is None) == (stored is None)
            if outcome.entry is not None and stored is not None:
                stored.check(outcome.entry)
            return
        what = ("set" if isinstance(operation, base.Set) else "delete", key)
        current = stored.revision if stored else ABSENT
        if done := known.done.get(operation.request_id):
            if done.what == what:
                assert outcome == done.result
            else:
                assert isinstance(outcome, InvalidRequestError)
        elif operation.condition is not None and operation.condition != current:
            assert isinstance(outcome, ConditionFailedError)
            assert outcome.current_revision == current
        elif isinstance(operation, base.Set):
            assert isinstance(outcome, base.Written)
            self.check_new_revision(known, outcome.revision)
            assert operation.ttl is not base.KEEP
            assert outcome.expires == (None if operation.ttl is None else self.clock.now + operation.ttl)
            known.entries[key] = Stored(operation.value, outcome.revision, outcome.expires)
        else:
            assert isinstance(outcome, base.Deleted)
            assert outcome.existed == (stored is not None)
            if outcome.existed:
                self.check_new_revision(known, outcome.revision)
            else:
                assert outcome.revision >= known.revision
                known.revision = outcome.revision
            known.entries.pop(key, None)
        if operation.request_id and isinstance(outcome, (base.Written, base.Deleted)):
            known.done.setdefault(operation.request_id, Done(what, outcome, self.clock.now))

    @rule(name=domains_drawn, key=keys)
    def get_value(self, name: str, key: str) -> None:
        self.present(f"{self.prefix}.{name}", key)

    @rule(name=domains_drawn, prefix=st.sampled_from(PREFIXES), entries=st.booleans())
    def all_keys(self, name: str, prefix: str, entries: bool) -> None:
        self.check_listing(f"{self.prefix}.{name}", prefix, entries=entries)

    def check_listing(self, domain: str, prefix: str, *, entries: bool) -> None:
        expected = {
            key: found for key in KEYS if (found := self.present(domain, key)) and key.startswith(prefix)
        }

        async def listing() -> list[base.Page]:
            return [page async for page in self.backend.all_keys(domain, prefix=prefix, entries=entries)]

        pages = self.run(listing())
        (revision,) = {page.domain_revision for page in pages}
        assert revision >= self.domains[domain].revision
        assert not any(page.unreadable for page in pages)
        if not entries:
            assert sorted(key for page in pages for key in page.keys) == sorted(expected)
            return
        listed = [entry for page in pages for entry in page.entries]
        assert sorted(entry.key for entry in listed) == sorted(expected)
        for entry in listed:
            expected[entry.key].check(entry)

    @rule(
        order=st.permutations([(name, key) for name in DOMAINS for key in KEYS] * 2),
        ttl=st.sampled_from(TTLS),
    )
    def write_at_once(self, order: list[tuple[str, str]], ttl: int | None) -> None:
        places = [(f"{self.prefix}.{name}", key) for name, key in order]
        ttl = self.possible(ttl)

        async def together() -> list[base.Written]:
            calls = [
                self.backend.set_value(*place, str(number), ttl=ttl) for number, place in enumerate(places)
            ]
            return await asyncio.gather(*calls)

        written = self.run(together())
        for domain, known in self.domains.items():
            revisions = [
                write.revision for write, place in zip(written, places, strict=True) if place[0] == domain
            ]
            assert len(set(revisions)) == len(revisions)
            assert min(revisions) > known.revision
            known.revision = max(revisions)
            for key in KEYS:
                # Of the writes of a key the one with the greatest revision stays.
                last = max((w.revision, n) for n, w in enumerate(written) if places[n] == (domain, key))
                known.entries[key] = Stored(str(last[1]), last[0], written[last[1]].expires)

    @precondition(lambda self: self.turnable)
    @rule(step=st.sampled_from(STEPS))
    def turn_the_clock(self, step: int) -> None:
        self.clock.now += step
        # What removes expired entries in the background may have looked at the clock before it was turned:
        # it is done with that once a later write is answered.
        self.run(self.backend.delete_key(f"{self.prefix}.nothing", "a"))
        for domain in self.domains.values():
            domain.turn(self.clock.now)
        for name in self.domains:
            self.check_listing(name, "", entries=False)

    @precondition(lambda self: self.survives)
    @rule()
    def restart(self) -> None:
        self.run(self.backend.close())
        self.open()
        if Capability.DURABLE_REQUEST_ID not in self.capabilities:
            for domain in self.domains.values():
                domain.done.clear()

    def present(self, domain: str, key: str) -> Stored | None:
        """Reads the key, holds the answer to the model, and returns what the model knows of it."""
        known = self.domains[domain]
        entry, revision = self.run(self.backend.get_value(domain, key))
        assert revision >= known.revision
        known.revision = revision
        stored = known.entries.get(key)
        if stored is not None and stored.is_over(self.clock.now):
            assert entry is None, "expired means absent"
            return None
        if stored is not None and stored.doubtful and entry is None:
            del known.entries[key]
            return None
        assert (entry is None) == (stored is None)
        if entry is not None and stored is not None:
            stored.doubtful = False
            stored.check(entry)
        return stored

    def possible(self, ttl: int | None) -> int | None:
        return ttl if Capability.TTL in self.capabilities and self.turnable else None

    def check_new_revision(self, known: Domain, revision: int) -> None:
        assert known.revision < revision < 2**53
        if self.turnable:
            least = base.next_revision(known.revision, self.clock.now)
            # What expired is deleted by a change of its own, which may have come before this one.
            assert least <= revision <= least + known.expired(self.clock.now) or not known.revision
        known.revision = revision

    def takes_effect(
        self,
        call: Any,
        known: Domain,
        what: tuple[str, str],
        wanted: base.Condition,
        present: Stored | None,
        request_id: str,
    ) -> bool:
        """Returns whether the call must be a write; runs and checks it here if it must not."""
        if done := known.done.get(request_id):
            if done.what == what:
                assert self.run(call) == done.result
            else:
                with pytest.raises(InvalidRequestError) as reused:
                    self.run(call)
                assert reused.value.reason == "REQUEST_ID_REUSED"
            return False
        current = present.revision if present else ABSENT
        if wanted is not None and wanted != current:
            with pytest.raises(ConditionFailedError) as failed:
                self.run(call)
            assert failed.value.current_revision == current
            return False
        return True


@pytest.mark.parametrize("kind", [*EXAMPLES])
def test_a_backend_does_what_its_model_does(kind: str, redis: RedisServer) -> None:
    machine = type(f"MachineOf{kind}", (Machine,), {"kind": kind, "redis": redis})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES[kind],
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            # A failure is told as it was found: to make it smaller takes longer than a test may.
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        ),
    )
