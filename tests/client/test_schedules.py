"""Several threads at once, with late replies and failures from a seed: what each of them sees is in order."""

import contextlib
import itertools
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import neardict
from neardict._contents import MISSING
from shown import shown

from .gate import Fault, Gate
from .threads import InThread

KEYS = ["a", "b", "c"]
ABSENT: Any = object()


@pytest.fixture
def hectic() -> Iterator[None]:
    """Lets threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Worker:
    """Does random things with the dicts, and notes what it saw and wrote, dict by dict and key by key."""

    def __init__(
        self, seed: str, store: neardict.Store, domain: str, dicts: list[neardict.CachedDict], steps: int
    ) -> None:
        self._random = random.Random(seed)
        self._store = store
        self._domain = domain
        self._dicts = dicts
        self._steps = steps
        self._values = (f"{seed} {number}" for number in itertools.count())
        # What was seen, and ("wrote", value) for what was acknowledged, in order: by dict and key.
        self.seen: dict[tuple[int, str], list[Any]] = {
            (number, key): [] for number in range(len(dicts)) for key in KEYS
        }

    def run(self) -> None:
        for _ in range(self._steps):
            # The first two are what the faults cause.
            with contextlib.suppress(neardict.ServiceError, neardict.BulkError, neardict.ConflictError):
                self._step()

    def _step(self) -> None:
        number = self._random.randrange(len(self._dicts))
        key = self._random.choice(KEYS)
        d = self._dicts[number]
        acts = [self._read, self._read, self._read, self._set, self._set, self._delete, self._others]
        self._random.choice(acts)(number, key, d)

    def _see(self, number: int, key: str, value: Any) -> None:
        self.seen[number, key].append(value)

    def _wrote(self, key: str, value: str) -> None:
        for number in range(len(self._dicts)):
            self.seen[number, key].append(("wrote", value))

    def _read(self, number: int, key: str, d: neardict.CachedDict) -> None:
        how = self._random.randrange(6)
        if how == 0:
            self._see(number, key, d.get(key, ABSENT))
        elif how == 1:
            try:
                self._see(number, key, d[key])
            except KeyError:
                self._see(number, key, ABSENT)
        elif how == 2:
            for one, value in d.get_many(KEYS).items():
                self._see(number, one, value)
        elif how == 3:
            snapshot = d.snapshot()
            for one in KEYS:
                self._see(number, one, snapshot.get(one, ABSENT))
        elif how == 4:
            d.refresh(self._random.choice([None, key]))
        else:
            len(d)

    def _set(self, number: int, key: str, d: neardict.CachedDict) -> None:
        value = next(self._values)
        how = self._random.randrange(5)
        if how == 0:
            self._store.set_value(self._domain, key, value)
        elif how == 1:
            d.update({key: value})
        elif how == 2:
            d.edit(key, lambda old: value, default="", timeout=1)
        elif how == 3:
            self._store.set_many(self._domain, {key: value})
        else:
            d[key] = value
        self._wrote(key, value)

    def _delete(self, number: int, key: str, d: neardict.CachedDict) -> None:
        how = self._random.randrange(4)
        if how == 0:
            d.delete_many([key])
        elif how == 1:
            self._store.delete_key(self._domain, key)
        elif how == 2:
            d.pop(key, None)
        else:
            with contextlib.suppress(KeyError):
                del d[key]

    def _others(self, number: int, key: str, d: neardict.CachedDict) -> None:
        how = self._random.randrange(3)
        if how == 0:
            self._see(number, key, d.setdefault(key, next(self._values)))
        elif how == 1:
            # What others are shown meanwhile counts too.
            self._see(number, key, dict.get(d, key, MISSING))
        else:
            with contextlib.suppress(KeyError):
                d.popitem()


def check(seen: list[Any], revisions: dict[str, int], deletions: list[int]) -> None:
    """Checks what one thread saw of one key in one dict: never backwards, and its own writes."""
    least = 0  # whatever is seen from here on has at least this revision
    gone = False  # whether absence has been seen since
    for one in seen:
        if one is MISSING:
            continue  # nothing is held, which says nothing
        if one is ABSENT:
            if least:
                assert any(revision > least for revision in deletions), f"{seen}: absent after {least}"
            gone = True
            continue
        wrote, value = one if isinstance(one, tuple) else ("", one)
        revision = revisions[f'"{value}"']
        if wrote:
            gone = gone and revision <= least
            least = max(least, revision)
            continue
        assert revision >= least, f"{seen}: {revision} after {least}"
        assert not (gone and revision == least), f"{seen}: {revision} came back"
        least, gone = revision, False


@pytest.mark.parametrize("seed", range(4))
def test_threads_see_each_key_in_order_and_their_own_writes(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, hectic: None, seed: int
) -> None:
    chance = random.Random(f"faults {seed}")
    lock = threading.Lock()

    def fault() -> Fault:
        with lock:
            failing = chance.random() < 0.05
            return Fault(
                chance.choice([0.0, 0.0, 0.001, 0.003]),
                grpc.StatusCode.INTERNAL if failing else None,
                chance.random() < 0.7,
            )

    gate.faults = fault
    dicts = [gated.dict(domain, load=load) for load in (True, False, True)]
    workers = [Worker(f"{seed}.{number}", gated, domain, dicts, 60) for number in range(6)]
    for running in [in_thread(worker.run) for worker in workers]:
        running.result()
    for worker in workers:
        for (_, key), seen in worker.seen.items():
            check(seen, gate.revisions, gate.deletions.get(key, []))
    # Now that all is quiet every dict shows what is stored, whatever has failed, and without a refresh.
    gate.faults = Fault
    stored = {entry.key: entry.value for entry in gated.all_entries(domain)}
    assert all(dict(d) == stored for d in dicts)
    assert all(d.get_many(KEYS) == stored for d in dicts)
    assert all(d._versions.held.keys() == shown(d).keys() for d in dicts)


def test_the_check_finds_histories_that_go_backwards() -> None:
    revisions = {'"old"': 1, '"new"': 2, '"newest"': 4}
    for good in (
        ["old", "old", "new"],
        [ABSENT, "old", ABSENT, "newest"],
        [("wrote", "new"), "new", ("wrote", "old"), "new"],
        [("wrote", "new"), ABSENT, MISSING],
    ):
        check(good, revisions, [3])
    for bad in (
        ["new", "old"],
        ["new", ABSENT, "new"],
        [("wrote", "new"), "old"],
        [("wrote", "newest"), ABSENT],
        ["newest", MISSING, "new"],
    ):
        with pytest.raises(AssertionError):
            check(bad, revisions, [3])
