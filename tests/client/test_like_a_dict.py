"""CachedDict is a dict: whatever is done with it gives what a plain dict gives, in both modes."""

import collections
import copy
import itertools
import json
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import neardict
from served import Served
from shown import is_guarded, shown

from .steady import steady

KEYS = st.sampled_from(["a", "b", "c", "d", "é", "..", "_moobius_type", "x" * 1024])
# What no entry can have as its key, but any dict may be asked for.
NO_KEYS = st.sampled_from(["", "\0", "x" * 1025, "\ud800", 5, None, ("a",), b"a", 1.5])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner.filter(lambda v: type(v) is not bytes), max_size=2)
        | st.dictionaries(st.text(max_size=2), inner.filter(lambda v: type(v) is not bytes), max_size=2)
    ),
    max_leaves=4,
)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=4)
BAD: list[Any] = [{1}, (1,), object(), float("nan"), [b"x"]]

_numbers = itertools.count()


def outcome(function: Callable[[], Any]) -> tuple[str, Any]:
    """Returns what the function returns or raises, in a form that can be compared."""
    try:
        return "returned", function()
    except KeyError:
        return "raised", KeyError
    except TypeError:
        return "raised", TypeError


class Dicts(RuleBasedStateMachine):
    """Four dicts of one domain and one store, beside the plain dict that they should be."""

    store: neardict.Store
    elsewhere: neardict.Store

    def __init__(self) -> None:
        super().__init__()
        self.domain = f"stateful.{os.getpid()}.{next(_numbers)}"
        self.dicts = [self.store.dict(self.domain, load=load) for load in (True, False, True, False)]
        self.model: dict[str, Any] = {}

    which = st.integers(0, 3)

    def both(self, which: int, function: Callable[[dict[str, Any]], Any]) -> None:
        expected = outcome(lambda: function(self.model))
        assert outcome(lambda: function(self.dicts[which])) == expected

    @invariant()
    def what_is_held_is_what_is_stored(self) -> None:
        for d in self.dicts:
            held = shown(d)
            assert held.keys() == d._versions.held.keys()
            if d._load and d._is_whole():
                assert held == self.model
            assert is_guarded(d) == (not (d._shows_all() and d._is_complete()))
            assert held == {key: self.model.get(key, "absent") for key in held}

    # Reading.

    @rule(which=which, key=KEYS | NO_KEYS)
    def look_up(self, which: int, key: Any) -> None:
        self.both(which, lambda d: d[key])
        self.both(which, lambda d: d.get(key))
        self.both(which, lambda d: d.get(key, "default"))
        self.both(which, lambda d: key in d)
        self.both(which, lambda d: key in d.keys())  # noqa: SIM118  # the view is what is tested

    @rule(which=which, key=KEYS)
    def same_object(self, which: int, key: str) -> None:
        d = self.dicts[which]
        if key in self.model:
            first = d[key]
            assert all(one is first for one in (d[key], d.get(key), d.get_many([key])[key]))
            assert d.copy()[key] is first
            d.refresh(key)
            d.refresh()
            assert d[key] is first

    @rule(which=which)
    def read_whole(self, which: int) -> None:
        d, model = self.dicts[which], self.model
        assert len(d) == len(model)
        assert bool(d) == bool(model)
        assert set(d) == set(model)
        assert list(reversed(list(d))) == list(reversed(d))
        assert d == model
        assert model == d
        assert (d != model) is False
        assert d != {**model, "more": 1}
        assert d != [1]
        assert dict(d) == {**d} == d.copy() == d.snapshot() == model
        assert type(d.copy()) is dict
        assert repr(d).startswith("CachedDict(")
        assert all(one == d for one in self.dicts)
        assert list(zip(d.keys(), d.values(), strict=True)) == list(d.items())

    @rule(which=which)
    def copy_and_serialise(self, which: int) -> None:
        d, model = self.dicts[which], self.model
        copies = (copy.copy(d), copy.deepcopy(d), pickle.loads(pickle.dumps(d)))
        for one in copies:
            assert type(one) is dict
            assert one == model
        if not any(type(value) is bytes for value in model.values()):
            assert json.loads(json.dumps(d.copy())) == model
            if d._load:
                assert json.loads(json.dumps(d)) == model

    @rule(which=which, others=ENTRIES)
    def views(self, which: int, others: dict[str, Any]) -> None:
        d, model = self.dicts[which], self.model
        for ours, plain, other in [
            (d.keys(), model.keys(), others.keys()),
            (d.keys(), model.keys(), set(others)),
        ]:
            assert len(ours) == len(plain)
            assert set(ours) == set(plain)
            assert ours & other == plain & other
            assert ours | other == plain | other
            assert ours - other == plain - other
            assert ours ^ other == plain ^ other
            assert other & ours == other & plain
            assert other - ours == other - plain
            assert (ours == other) == (plain == other)
            assert (ours <= other) == (plain <= other)
            assert (ours < other) == (plain < other)
            assert (ours >= other) == (plain >= other)
            assert ours.isdisjoint(other) == plain.isdisjoint(other)
        for key, value in [*others.items(), *model.items()]:
            assert ((key, value) in d.items()) == ((key, value) in model.items())
            assert (value in d.values()) == (value in model.values())
        assert len(d.values()) == len(d.items()) == len(model)
        assert dict(d.items()) == model == dict(reversed(d.items()))
        assert sorted(map(repr, d.values())) == sorted(map(repr, reversed(d.values())))
        assert sorted(map(repr, d.values())) == sorted(map(repr, model.values()))
        assert (d.items() == model.items()) is (dict(d) == model)

    @rule(which=which, other=ENTRIES)
    def union(self, which: int, other: dict[str, Any]) -> None:
        d, model = self.dicts[which], self.model
        assert d | other == model | other
        assert other | d == other | model
        assert d | d == model
        assert type(d | other) is type(other | d) is dict
        assert (collections.OrderedDict(other) | d) == (other | model)

    @rule(which=which, keys=st.lists(KEYS | NO_KEYS.filter(lambda k: k is not None), max_size=4))
    def get_many(self, which: int, keys: list[Any]) -> None:
        expected = {key: self.model[key] for key in keys if key in self.model}
        assert self.dicts[which].get_many(keys) == expected

    # Writing.

    @rule(which=which, key=KEYS, value=VALUES)
    def assign(self, which: int, key: str, value: Any) -> None:
        d = self.dicts[which]
        d[key] = value
        self.model[key] = copy.deepcopy(value)
        assert dict.get(d, key) is value

    @rule(which=which, key=KEYS | NO_KEYS)
    def delete(self, which: int, key: Any) -> None:
        self.both(which, lambda d: d.__delitem__(key))

    @rule(which=which, key=KEYS | NO_KEYS)
    def pop(self, which: int, key: Any) -> None:
        expected = outcome(lambda: self.model.pop(key))
        assert outcome(lambda: self.dicts[which].pop(key)) == expected
        assert self.dicts[which].pop(key, "default") == "default"

    @rule(which=which)
    def popitem(self, which: int) -> None:
        try:
            key, value = self.dicts[which].popitem()
        except KeyError:
            assert not self.model
        else:
            assert self.model.pop(key) == value

    @rule(which=which, key=KEYS, value=VALUES)
    def setdefault(self, which: int, key: str, value: Any) -> None:
        assert self.dicts[which].setdefault(key, value) == self.model.setdefault(key, copy.deepcopy(value))
        self.both(which, lambda d: d.setdefault(key))

    @rule(which=which, new=ENTRIES, form=st.integers(0, 5))
    def update(self, which: int, new: dict[str, Any], form: int) -> None:
        d = self.dicts[which]
        given = copy.deepcopy(new)
        if form == 0:
            d.update(given)
        elif form == 1:
            d.update(list(given.items()))
        elif form == 2:
            d.update(iter(given.items()), self=1)
            self.model["self"] = 1
        elif form == 3:
            d.set_many(collections.UserDict(given))
        elif form == 4:
            d |= given
            assert d is self.dicts[which]
        else:
            d |= given.items()
        self.model.update(new)

    @rule(which=which, other=which)
    def update_from_another(self, which: int, other: int) -> None:
        self.dicts[which].update(self.dicts[other])

    @rule(which=which)
    def clear(self, which: int) -> None:
        self.dicts[which].clear()
        self.model.clear()

    @rule(which=which, keys=st.lists(KEYS, max_size=4))
    def delete_many(self, which: int, keys: list[str]) -> None:
        expected = len(set(keys) & self.model.keys())
        assert self.dicts[which].delete_many(keys) == expected
        for key in keys:
            self.model.pop(key, None)

    @rule(which=which, key=KEYS, value=VALUES)
    def edit_in_place_and_save(self, which: int, key: str, value: Any) -> None:
        if type(self.model.get(key)) is not list or type(value) is bytes:
            return
        d = self.dicts[which]
        d[key].append(value)
        d.save(key)
        self.model[key].append(copy.deepcopy(value))

    @rule(which=which, key=KEYS, form=st.integers(0, 2))
    def edit(self, which: int, key: str, form: int) -> None:
        d = self.dicts[which]
        try:
            if form == 0:
                assert d.edit(key, lambda value: [value], replace=True) == [self.model[key]]
            elif form == 1:
                d.edit(key, lambda value: [value], default=[7], replace=True)
            else:
                with d.edit(key, default={}) as value:
                    if type(value) is dict:
                        value["edited"] = True
        except KeyError:
            assert form == 0
            assert key not in self.model
        except neardict.UnsupportedValueError:
            assert type(self.model[key]) is bytes  # which do not go into a list
        else:
            if form < 2:
                self.model[key] = [self.model.get(key, [7])]
            else:
                value = self.model.setdefault(key, {})
                if type(value) is dict:
                    value["edited"] = True

    # Writes by methods of the store, which every dict sees, and by others, which a refresh shows.

    @rule(new=ENTRIES, keys=st.lists(KEYS, max_size=2))
    def write_by_the_store(self, new: dict[str, Any], keys: list[str]) -> None:
        self.store.set_many(self.domain, new)
        self.model.update(copy.deepcopy(new))
        for key in keys:
            assert self.store.delete_key(self.domain, key) == (key in self.model)
            self.model.pop(key, None)

    @rule(new=ENTRIES, keys=st.lists(KEYS, max_size=2), whole=st.booleans())
    def write_elsewhere(self, new: dict[str, Any], keys: list[str], whole: bool) -> None:
        self.elsewhere.set_many(self.domain, new)
        self.elsewhere.delete_many(self.domain, keys)
        self.model.update(copy.deepcopy(new))
        for key in keys:
            self.model.pop(key, None)
        for d in self.dicts:
            if whole:
                d.refresh()
            else:
                for key in {*new, *keys}:
                    d.refresh(key)

    # Writes that fail.

    @rule(which=which, key=KEYS, bad=st.sampled_from(BAD))
    def write_what_is_not_supported(self, which: int, key: str, bad: Any) -> None:
        d = self.dicts[which]

        def edit_as_a_block() -> None:
            with d.edit(key, default=0) as value:
                del value
                d.edit(key, lambda value: bad, default=0)

        for act in (
            lambda: d.__setitem__(key, bad),
            lambda: d.update({"good": 1, key: bad}),
            lambda: d.edit(key, lambda value: [bad], default=0),
            edit_as_a_block,
        ):
            with pytest.raises(neardict.UnsupportedValueError):
                act()
        if key not in self.model:
            with pytest.raises(neardict.UnsupportedValueError):
                d.setdefault(key, bad)

    @rule(which=which, key=KEYS, bad=st.sampled_from(BAD), form=st.integers(0, 2))
    def save_what_is_not_supported(self, which: int, key: str, bad: Any, form: int) -> None:
        if type(self.model.get(key)) is not list:
            return
        d = self.dicts[which]
        value = d[key]
        value.append(bad)
        acts: list[Callable[[], None]] = [
            lambda: d.save(key),
            lambda: d.__setitem__(key, value),
            lambda: d.update({key: value}),
        ]
        with pytest.raises(neardict.UnsupportedValueError):
            acts[form]()
        assert d[key] == self.model[key]


def test_a_near_dict_is_a_dict_whatever_is_done_with_it(server: Served) -> None:
    with neardict.connect(server.address) as store, neardict.connect(server.address) as elsewhere:
        run_state_machine_as_test(
            type("Connected", (Dicts,), {"store": store, "elsewhere": elsewhere}),
            settings=settings(steady, max_examples=30, stateful_step_count=25),
        )


@pytest.mark.parametrize("load", [True, False], ids=["mirror", "cache"])
def test_it_is_taken_wherever_a_mapping_is(store: neardict.Store, domain: str, load: bool) -> None:
    d = store.dict(domain, load=load)
    d.update(a=1, b=[2])
    assert isinstance(d, dict)
    assert isinstance(d, Mapping)
    assert "{a} {b}".format(**d) == "1 [2]"
    assert "{a}".format_map(d) == "1"
    assert collections.ChainMap({}, d)["b"] == [2]
    assert sorted(d, key=str) == ["a", "b"]
    assert max(d.items()) == ("b", [2])
    match d:
        case {"a": int(one), **rest}:
            assert (one, rest) == (1, {"b": [2]})
        case _:
            pytest.fail("it does not match as a dict does")
    with pytest.raises(TypeError, match="unhashable"):
        hash(d)
    with pytest.raises(TypeError, match="unhashable"):
        d[[]]  # type: ignore[index]  # on purpose
    with pytest.raises(TypeError):
        d | [("c", 1)]


def test_its_text_is_what_it_holds_and_costs_no_request(
    server: Served, store: neardict.Store, domain: str
) -> None:
    mirror, cache = store.dict(domain), store.dict(domain, load=False)
    store.set_value(domain, "a", [1])
    assert cache["a"] == [1]
    again = store.dict(domain, load=False)
    store.close()
    assert str(mirror) == f"CachedDict({domain!r}, {{'a': [1]}})"
    assert repr(cache) == f"CachedDict({domain!r}, {{'a': [1]}}, load=False)"
    assert repr(again) == f"CachedDict({domain!r}, ..., load=False)"
    assert (mirror.domain, repr(store)) == (domain, f"neardict.Store({server.address!r})")
