"""What real Moobius services do with their containers, inside async functions, on each engine."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict.moobius import CachedDict, MoobiusStorage
from served import Served
from waiting import DEADLINE_SECONDS

Containers = Callable[..., CachedDict]
Storages = Callable[..., MoobiusStorage]
Domains = Callable[[str], str]

DEADLINE = DEADLINE_SECONDS


@pytest.fixture(params=[True, False], ids=["loaded", "not loaded"])
def d(request: pytest.FixtureRequest, container: Containers, engine: str) -> CachedDict:
    return container(engine, load=request.param)


async def test_get_with_a_default_then_assign(d: CachedDict, container: Containers, engine: str) -> None:
    for _ in range(3):
        d["alice"] = d.get("alice", 10) + 1
    assert d["alice"] == 13
    assert container(engine)["alice"] == 13


async def test_setting_a_default_if_absent_does_not_overwrite_what_is_stored(
    d: CachedDict, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    elsewhere.set_value(domain(engine), "alice", {"hp": 7})
    async with asyncio.timeout(DEADLINE):
        while "alice" not in d:  # a mirror sees it when the change has come to it
            await asyncio.sleep(0.001)
    for key in ("alice", "bob"):
        if key not in d:
            d[key] = {"hp": 100}
    assert d == {"alice": {"hp": 7}, "bob": {"hp": 100}}


async def test_editing_in_place_then_save(d: CachedDict, container: Containers, engine: str) -> None:
    d["alice"] = {"n": 1}
    assert d["alice"] is d["alice"]
    d["alice"]["n"] += 1
    d.save("alice")
    assert d["alice"] == {"n": 2}
    assert container(engine)["alice"] == {"n": 2}


async def test_a_value_that_was_read_is_the_same_object_at_each_look(
    d: CachedDict, container: Containers, engine: str
) -> None:
    container(engine)["alice"] = {"n": 1}
    first = d["alice"]
    first["n"] += 1
    assert d["alice"] is first
    assert d.get("alice") is first
    d.save("alice")
    assert d["alice"] is first


async def test_listing_the_keys_then_popping_each(d: CachedDict, container: Containers, engine: str) -> None:
    d.update(a=1, b=2, c=3)
    assert sorted(d.pop(key) for key in list(d.keys())) == [1, 2, 3]
    assert not d
    assert list(container(engine)) == []


async def test_popping_in_a_loop_over_the_dict_itself(d: CachedDict) -> None:
    d.update(a=1, b=2)
    for key in d:
        d.pop(key)
    assert len(d) == 0


async def test_pop_with_a_default(d: CachedDict) -> None:
    assert d.pop("nobody", None) is None
    d["alice"] = 1
    assert d.pop("alice", None) == 1
    assert "alice" not in d


async def test_keys_and_values_go_together(
    d: CachedDict, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    d["zoe"] = 1
    elsewhere.set_many(domain(engine), {name: ord(name) for name in "hgfedcba"})
    d.refresh()
    d["aaa"] = 2
    assert dict(zip(d.keys(), d.values(), strict=True)) == {name: ord(name) for name in "abcdefgh"} | {
        "zoe": 1,
        "aaa": 2,
    }


async def test_truth(d: CachedDict) -> None:
    assert not d
    d["alice"] = 1
    assert d
    del d["alice"]
    assert not d


async def test_passing_it_where_a_dict_is_wanted(d: CachedDict) -> None:
    d.update(alice=1, bob=2)
    d["alice"]
    plain = {"alice": 1, "bob": 2}

    def takes_names(**names: int) -> dict[str, int]:
        return names

    assert isinstance(d, dict)
    assert dict(d) == {**d} == d.copy() == d | {} == takes_names(**d) == plain
    assert json.loads(json.dumps(d)) == plain
    assert sorted(d.items()) == sorted(plain.items())


async def test_str_shows_the_contents_as_the_sdk_does(d: CachedDict) -> None:
    d["alice"] = [1, None]
    assert str(d) == f"{d}" == repr(d) == "moobius.CachedDict({'alice': [1, None]})"


async def test_a_second_storage_of_the_channel_sees_the_writes_of_the_first_at_once(
    storage: Storages, engine: str
) -> None:
    first = getattr(storage(engine), engine)
    second = getattr(storage(engine), engine)
    partial = getattr(storage(engine, load=False), engine)
    first["alice"] = {"n": 1}
    assert second["alice"] == partial["alice"] == {"n": 1}
    first["alice"]["n"] = 2
    assert second["alice"] == {"n": 1}  # an object of its own
    first.save("alice")
    assert second["alice"] == partial["alice"] == {"n": 2}
    del second["alice"]
    assert "alice" not in first
    assert not partial


async def test_no_pattern_touches_the_network_on_a_hit(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        entry = {"implementation": "grpc", "name": "d", "settings": {"target": server.address}}
        d = MoobiusStorage(1, 2, entry).d
        d.update(alice={"n": 1}, bob={"n": 2})
        MoobiusStorage(1, 2, entry).d["carol"] = {"n": 3}
        # From now on nothing answers; what is held is trusted for a few seconds all the same.
        server.process.send_signal(signal.SIGSTOP)

        everything = {"alice": {"n": 1}, "bob": {"n": 2}, "carol": {"n": 3}}
        assert d["alice"] is d["alice"]
        assert d.get("bob", 0) == {"n": 2}
        assert "carol" in d
        assert len(d) == 3
        assert d
        assert dict(zip(d.keys(), d.values(), strict=True)) == everything
        assert list(d.items()) == list(everything.items())
        assert d == everything
        assert {**d} == everything
        assert json.dumps(d) == json.dumps(everything)
        assert "carol" in str(d)
        d["carol"]["n"] += 1
        assert d["carol"] == {"n": 4}


def test_a_hit_is_a_look_up_of_dict_itself(container: Containers) -> None:
    d: Any = container("memory")
    assert type(d) is CachedDict
    assert CachedDict.__getitem__ is dict.__getitem__
    assert CachedDict.__getattribute__ is dict.__getattribute__
