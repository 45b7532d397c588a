"""The Moobius dict over a database of one's own does what a plain dict does, whatever is done in turn."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neardict.moobius import CachedDict
from neardict.moobius.null import NullDatabase

KEYS = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.one_of(st.integers(), st.none(), st.lists(st.integers(), max_size=2))


class AgainstADict(RuleBasedStateMachine):
    """Begins unloaded; the database is changed by others as well."""

    def __init__(self) -> None:
        super().__init__()
        self.database = NullDatabase()
        self.dict = CachedDict(self.database)
        self.model: dict[str, Any] = {}

    @rule(key=KEYS, value=VALUES)
    def set(self, key: str, value: Any) -> None:
        self.dict[key] = self.model[key] = value

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.dict.get(key, "absent") == self.model.get(key, "absent")
        assert (key in self.dict) == (key in self.model)

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        assert self.dict.pop(key, "absent") == self.model.pop(key, "absent")

    @rule(key=KEYS, value=VALUES)
    def set_default(self, key: str, value: Any) -> None:
        assert self.dict.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(values=st.dictionaries(KEYS, VALUES))
    def update(self, values: dict[str, Any]) -> None:
        self.dict.update(values)
        self.model.update(values)

    @rule()
    @precondition(lambda self: self.model)
    def pop_an_item(self) -> None:
        key, value = self.dict.popitem()
        assert self.model.pop(key) == value

    @rule(key=KEYS)
    def edit(self, key: str) -> None:
        self.dict.edit(key, lambda value: [value], default=0)
        self.model[key] = [self.model.get(key, 0)]

    @rule()
    def clear(self) -> None:
        self.dict.clear()
        self.model.clear()

    @rule()
    def load(self) -> None:
        self.dict.load()

    @rule(key=KEYS, value=VALUES)
    def somebody_else_writes(self, key: str, value: Any) -> None:
        self.database.set_value(key, value)
        self.dict.refresh(key)
        self.model[key] = value

    @rule()
    def begin_anew(self) -> None:
        self.dict = CachedDict(self.database)

    @invariant()
    def equal(self) -> None:
        assert len(self.dict) == len(self.model)
        assert bool(self.dict) == bool(self.model)
        assert sorted(self.dict) == sorted(self.model)

    @invariant()
    def stored(self) -> None:
        assert {key: self.database.get_value(key)[1] for key in self.database.all_keys()} == self.model

    def teardown(self) -> None:
        assert self.dict == self.model == dict(zip(self.dict.keys(), self.dict.values(), strict=True))


AgainstADict.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=100, database=None)
TestAgainstADict = AgainstADict.TestCase
