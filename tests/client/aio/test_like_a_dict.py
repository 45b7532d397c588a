"""The asyncio dict is a dict: awaited where it asks, and for the rest what a plain dict is."""

import asyncio
import copy
import itertools
import json
import os
import pickle
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import neardict
from neardict import aio
from neardict_server.app import serving
from neardict_server.config import BackendConfig, Config
from shown import is_guarded, shown

from ..steady import steady

KEYS = st.sampled_from(["a", "b", "c", "é", "x" * 1024])
NO_KEYS = st.sampled_from(["", "\0", "x" * 1025, "\ud800", 5, None, ("a",)])
VALUES = st.none() | st.integers(-5, 5) | st.binary(max_size=3) | st.lists(st.integers(0, 3), max_size=2)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=4)
BAD: list[Any] = [{1}, (1,), object(), float("nan"), [b"x"]]

_numbers = itertools.count()


class Dicts(RuleBasedStateMachine):
    """A mirror and a cache of one domain and one store, beside the plain dict that they should be."""

    runner: asyncio.Runner
    store: aio.Store
    elsewhere: aio.Store

    def __init__(self) -> None:
        super().__init__()
        self.domain = f"stateful.{os.getpid()}.{next(_numbers)}"
        self.mirror = self.wait(self.store.dict(self.domain))
        self.cache = self.wait(self.store.dict(self.domain, load=False))
        self.dicts = [self.mirror, self.cache]
        self.model: dict[str, Any] = {}

    which = st.integers(0, 1)

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await awaitable

        return self.runner.run(run())

    def raises(self, kind: type[Exception], function: Callable[[], Any]) -> None:
        with pytest.raises(kind):
            function()

    async def until_fresh(self) -> None:
        """After a long pause of this process nobody vouches for the dicts, for a moment."""
        async with asyncio.timeout(20):
            while not (self.mirror.fresh and self.cache.fresh):
                await asyncio.sleep(0.005)

    @invariant()
    def what_is_held_is_what_is_stored(self) -> None:
        self.wait(self.until_fresh())
        assert self.mirror == self.model
        held = shown(self.cache)
        assert held == {key: self.model.get(key, "absent") for key in held}
        for d in self.dicts:
            assert d._versions.held.keys() == shown(d).keys()
            assert is_guarded(d) == (not (d._shows_all() and d._is_complete()))

    @rule(key=KEYS | NO_KEYS, which=which)
    def look_up(self, key: Any, which: int) -> None:
        d, model = self.dicts[which], self.model
        assert self.wait(d.fetch(key, "default")) == model.get(key, "default")
        assert self.wait(d.has(key)) == (key in model)
        if key in model:
            value = self.wait(d.fetch(key))
            assert d[key] is d.get(key) is value is self.wait(d.fetch(key))
            assert key in d
        else:
            self.raises(KeyError, lambda: self.wait(d.fetch(key)))
            if d is self.cache and key in ("a", "b", "c", "é", "x" * 1024):
                # It knows since `fetch` has asked, unless the stream is not up to date at the moment.
                for ask in (lambda: d[key], lambda: d.get(key, 7), lambda: key in d):
                    try:
                        assert ask() in (7, False)
                    except (KeyError, neardict.NotHeldError):
                        continue
            else:
                self.raises(KeyError, lambda: d[key])
                assert d.get(key, 7) == 7
                assert key not in d

    @rule(keys=st.lists(KEYS | NO_KEYS, max_size=4), which=which)
    def get_many(self, keys: list[Any], which: int) -> None:
        expected = {key: self.model[key] for key in keys if key in self.model}
        assert self.wait(self.dicts[which].get_many(keys)) == expected

    @rule(other=ENTRIES)
    def read_mirror(self, other: dict[str, Any]) -> None:
        d, model = self.mirror, self.model
        assert len(d) == len(model)
        assert bool(d) == bool(model)
        assert set(d) == set(d.keys()) == set(model)
        assert list(reversed(d)) == list(reversed(list(d)))
        assert dict(d.items()) == {**d} == dict(d) == d.copy() == model
        assert list(zip(d.keys(), d.values(), strict=True)) == list(d.items())
        assert d.keys() & other.keys() == model.keys() & other.keys()
        assert (d != model) is False
        assert d | other == model | other
        assert other | d == other | model
        for one in (copy.copy(d), copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
            assert type(one) is dict
            assert one == model
        if not any(type(value) is bytes for value in model.values()):
            assert json.loads(json.dumps(d)) == model

    @rule(which=which)
    def read_whole(self, which: int) -> None:
        assert self.wait(self.dicts[which].snapshot()) == self.model
        d = self.cache
        for ask in (
            lambda: len(d), lambda: bool(d), lambda: list(d), lambda: list(reversed(d)), d.keys, d.values,
            d.items, d.copy, lambda: d == {}, lambda: d | {}, lambda: {} | d, lambda: copy.copy(d),
        ):  # fmt: skip
            self.raises(neardict.NotHeldError, ask)
        assert "load=False" in repr(d)

    @rule(which=which, key=KEYS, value=VALUES)
    def set(self, which: int, key: str, value: Any) -> None:
        self.wait(self.dicts[which].set(key, value))
        self.model[key] = copy.deepcopy(value)
        assert self.dicts[which][key] is value

    @rule(which=which, key=KEYS | NO_KEYS)
    def delete(self, which: int, key: Any) -> None:
        d = self.dicts[which]
        if key in self.model:
            self.wait(d.delete(key))
            del self.model[key]
        else:
            self.raises(KeyError, lambda: self.wait(d.delete(key)))

    @rule(which=which, key=KEYS | NO_KEYS)
    def pop(self, which: int, key: Any) -> None:
        d = self.dicts[which]
        if key in self.model:
            assert self.wait(d.pop(key)) == self.model.pop(key)
        self.raises(KeyError, lambda: self.wait(d.pop(key)))
        assert self.wait(d.pop(key, "default")) == "default"

    @rule(which=which)
    def popitem(self, which: int) -> None:
        d = self.dicts[which]
        if self.model:
            key, value = self.wait(d.popitem())
            assert self.model.pop(key) == value
        else:
            self.raises(KeyError, lambda: self.wait(d.popitem()))

    @rule(which=which, key=KEYS, value=VALUES)
    def setdefault(self, which: int, key: str, value: Any) -> None:
        expected = self.model.setdefault(key, copy.deepcopy(value))
        assert self.wait(self.dicts[which].setdefault(key, value)) == expected

    @rule(which=which, new=ENTRIES, form=st.integers(0, 2))
    def update(self, which: int, new: dict[str, Any], form: int) -> None:
        d, given = self.dicts[which], copy.deepcopy(new)
        if form == 0:
            self.wait(d.update(given))
        elif form == 1:
            self.wait(d.update(list(given.items()), self=1))
            self.model["self"] = 1
        else:
            self.wait(d.set_many(given))
        self.model.update(new)

    @rule(which=which, keys=st.lists(KEYS, max_size=3))
    def delete_many(self, which: int, keys: list[str]) -> None:
        assert self.wait(self.dicts[which].delete_many(keys)) == len(set(keys) & self.model.keys())
        for key in keys:
            self.model.pop(key, None)

    @rule(which=which)
    def clear(self, which: int) -> None:
        self.wait(self.dicts[which].clear())
        self.model.clear()

    @rule(which=which, key=KEYS)
    def edit(self, which: int, key: str) -> None:
        d = self.dicts[which]

        async def edit() -> None:
            async with d.edit(key, default=[]) as value:
                if type(value) is list:
                    value.append(1)

        if type(self.model.get(key)) is list:
            assert self.wait(d.edit(key, lambda value: value.append(0))) == [*self.model[key], 0]
            self.model[key].append(0)
        elif key not in self.model:
            self.raises(KeyError, lambda: self.wait(d.edit(key, len)))
        self.wait(edit())
        value = self.model.setdefault(key, [])
        if type(value) is list:
            value.append(1)

    @rule(which=which, key=KEYS)
    def edit_in_place(self, which: int, key: str) -> None:
        if type(self.model.get(key)) is list:
            d = self.dicts[which]
            self.wait(d.fetch(key)).append(2)
            self.wait(d.save(key))
            self.model[key].append(2)

    @rule(new=ENTRIES, keys=st.lists(KEYS, max_size=2))
    def write_by_the_store(self, new: dict[str, Any], keys: list[str]) -> None:
        self.wait(self.store.set_many(self.domain, new))
        self.model.update(copy.deepcopy(new))
        assert self.wait(self.store.delete_many(self.domain, keys)) == len(set(keys) & self.model.keys())
        for key in keys:
            self.model.pop(key, None)

    @rule(new=ENTRIES, keys=st.lists(KEYS, max_size=2))
    def write_elsewhere(self, new: dict[str, Any], keys: list[str]) -> None:
        self.wait(self.elsewhere.set_many(self.domain, new))
        self.wait(self.elsewhere.delete_many(self.domain, keys))
        self.model.update(copy.deepcopy(new))
        for key in keys:
            self.model.pop(key, None)
        for d in self.dicts:
            self.wait(d.refresh())

    @rule(which=which, key=KEYS, bad=st.sampled_from(BAD))
    def write_what_is_not_supported(self, which: int, key: str, bad: Any) -> None:
        d = self.dicts[which]
        for act in (
            lambda: self.wait(d.set(key, bad)),
            lambda: self.wait(d.update({"good": 1, key: bad})),
            lambda: self.wait(d.edit(key, lambda value: bad, default=0)),
        ):
            self.raises(neardict.UnsupportedValueError, act)
        if type(self.model.get(key)) is list:
            value = self.wait(d.fetch(key))
            value.append(bad)
            self.raises(neardict.UnsupportedValueError, lambda: self.wait(d.save(key)))
            assert self.wait(d.fetch(key)) == self.model[key]

    @rule(which=which)
    def write_without_await(self, which: int) -> None:
        d = self.dicts[which]

        def merge() -> None:
            nonlocal d
            d |= {"a": 1}

        self.raises(TypeError, lambda: d.__setitem__("a", 1))
        self.raises(TypeError, lambda: d.__delitem__("a"))
        self.raises(TypeError, merge)


def test_an_asyncio_dict_is_a_dict_whatever_is_done_with_it(tmp_path: Path) -> None:
    config = Config(
        listen="127.0.0.1:0", data_dir=tmp_path, backends={"memory": BackendConfig(implementation="memory")}
    )
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> dict[str, Any]:
            server = await stack.enter_async_context(serving(config))
            stores = [await stack.enter_async_context(aio.connect(server.address)) for _ in range(2)]
            return {"runner": runner, "store": stores[0], "elsewhere": stores[1]}

        try:
            run_state_machine_as_test(
                type("Connected", (Dicts,), runner.run(start())),
                settings=settings(steady, max_examples=30, stateful_step_count=25),
            )
        finally:
            runner.run(stack.aclose())


@pytest.fixture
async def mirror(astore: aio.Store, domain: str) -> aio.CachedDict:
    return await astore.dict(domain)


async def test_what_cannot_wait_says_what_to_await(mirror: aio.CachedDict, astore: aio.Store) -> None:
    cache = await astore.dict(mirror.domain, load=False)
    with pytest.raises(neardict.NotHeldError, match=r"'key' is not held here: await d.fetch\(key\)"):
        cache["key"]
    with pytest.raises(neardict.NotHeldError, match=r"await d.has\(key\)"):
        "key" in cache  # noqa: B015  # it raises
    with pytest.raises(neardict.NotHeldError, match=r"use await d.snapshot\(\)"):
        len(cache)
    with pytest.raises(TypeError, match=r"await d.set\(key, value\)"):
        mirror["key"] = 1  # type: ignore[index,assignment]
    with pytest.raises(TypeError, match=r"await d.delete\(key\)"):
        del mirror["key"]  # type: ignore[arg-type]
    assert not issubclass(neardict.NotHeldError, KeyError)  # else it would be taken for an absent key
    assert str(mirror) == f"aio.CachedDict({mirror.domain!r}, {{}})"
