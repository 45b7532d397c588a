"""CachedDict over a database of the user's own: any object with the four methods."""

import collections
import logging
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from neardict import BulkError, ConflictError, NeardictError
from neardict.moobius import CachedDict, DatabaseInterface, MoobiusStorage


class Shelf(DatabaseInterface):
    """Keeps what it is given, of any type; counts the calls; does not do what `refuses` names."""

    def __init__(self, domain: str = "", **kwargs: Any) -> None:
        super().__init__(domain=domain, **kwargs)
        self.values: dict[str, Any] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.refuses: set[str] = set()
        self.damaged: set[str] = set()
        self.error: Exception | None = None

    def get_value(self, key: str) -> tuple[bool, Any]:
        self._called("get")
        if key in self.damaged:
            raise ValueError(f"{key} is damaged")
        return (True, self.values[key]) if key in self.values else (False, "not here")

    def set_value(self, key: str, value: Any) -> tuple[bool, Any]:
        self._called("set")
        if key in self.refuses:
            return False, "no room"
        self.values[key] = value
        return True, key

    def delete_key(self, key: str) -> tuple[bool, Any]:
        self._called("delete")
        if key in self.refuses:
            return False, "nailed down"
        del self.values[key]  # KeyError, if it is absent
        return True, key

    def all_keys(self) -> Iterable[str]:
        self._called("keys")
        yield from self.values

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.error is not None:
            raise self.error


class Bare:
    """Has the methods and inherits nothing."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get_value(self, key: str) -> tuple[bool, Any]:
        return key in self.values, self.values.get(key)

    def set_value(self, key: str, value: Any) -> tuple[bool, Any]:
        self.values[key] = value
        return True, ""

    def delete_key(self, key: str) -> tuple[bool, Any]:
        self.values.pop(key, None)
        return True, ""

    def all_keys(self) -> list[str]:
        return list(self.values)


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf("domain", root_dir="x")
    shelf.values = {"alice": {"n": 1}, "bob": 2}
    return shelf


@pytest.fixture
def d(shelf: Shelf) -> CachedDict:
    return CachedDict(shelf)


def test_the_interface_cannot_be_made_without_its_methods() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DatabaseInterface()  # type: ignore[abstract]  # on purpose


def test_it_begins_as_a_cache_of_what_is_used(d: CachedDict, shelf: Shelf) -> None:
    assert (d.database, d.strict_mode) == (shelf, False)
    assert not shelf.calls
    assert d["alice"] is d["alice"] is shelf.values["alice"]
    assert shelf.calls == {"get": 1}
    assert len(d) == 2
    assert sorted(d) == ["alice", "bob"]
    assert d == shelf.values
    assert "bob" in d
    assert "nobody" not in d
    assert d.get("nobody", 5) == 5
    assert dict(zip(d.keys(), d.values(), strict=True)) == shelf.values


def test_load_reads_everything_and_hits_do_not_ask_again(d: CachedDict, shelf: Shelf) -> None:
    d.load()
    asked = shelf.calls.copy()
    assert d == {"alice": {"n": 1}, "bob": 2}
    assert len(d) == 2
    assert list(d) == ["alice", "bob"]
    assert d["bob"] == d.get("bob") == 2
    assert shelf.calls == asked
    shelf.values["carol"] = 3
    assert d["carol"] == 3
    d.load()
    assert list(d) == ["alice", "bob", "carol"]


def test_every_way_to_write_reaches_the_database(d: CachedDict, shelf: Shelf) -> None:
    d["alice"]["n"] += 1
    d.save("alice")
    d["carol"] = 3
    d.update(dave=4)
    d |= {"erin": 5}
    assert d.setdefault("frank", 6) == 6
    assert d.setdefault("bob", 100) == 2
    assert d == shelf.values == {
        "alice": {"n": 2}, "bob": 2, "carol": 3, "dave": 4, "erin": 5, "frank": 6
    }  # fmt: skip
    assert d.pop("bob") == 2
    assert d.pop("bob", None) is None
    del d["carol"]
    assert d.popitem()[0] not in shelf.values
    assert d == shelf.values
    d.clear()
    assert shelf.values == {}
    assert len(d) == 0


def test_values_of_any_type_pass_unchanged(d: CachedDict, shelf: Shelf) -> None:
    for value in ({1, 2}, (1, 2), {1: "one"}, threading.Lock(), object()):
        d["any"] = value
        assert shelf.values["any"] is d["any"] is value
        assert CachedDict(shelf)["any"] is value


def test_reading_writes_nothing(d: CachedDict, shelf: Shelf) -> None:
    d.load()
    assert d["alice"]
    assert "nobody" not in d
    assert not shelf.calls["set"]


def test_editing_works_on_a_copy_and_by_compare_and_set(d: CachedDict, shelf: Shelf) -> None:
    d["alice"]
    before = shelf.values["alice"]

    def increment(value: dict[str, int]) -> None:
        value["n"] += 1

    assert d.edit("alice", increment) == {"n": 2}
    assert before == {"n": 1}
    with pytest.raises(ConflictError), d.edit("alice"):
        d["alice"] = {"n": 7}
    assert d["alice"] == shelf.values["alice"] == {"n": 7}
    with d.edit("carol", default=[]) as value:
        value.append(1)
    assert shelf.values["carol"] == [1]
    with pytest.raises(ConflictError), d.edit("dave", default=0):
        d["dave"] = 1
    with pytest.raises(ConflictError), d.edit("alice"):
        del d["alice"]
    assert "alice" not in d


@pytest.mark.parametrize("strict_mode", [False, True])
def test_a_value_that_the_database_did_not_store_is_not_shown(shelf: Shelf, strict_mode: bool) -> None:
    d = CachedDict(shelf, strict_mode)
    d.load()
    shelf.refuses = {"alice", "carol"}
    with pytest.raises(NeardictError, match="did not store 'alice': no room"):
        d["alice"] = {"n": 100}
    with pytest.raises(NeardictError, match="did not store 'carol': no room"):
        d["carol"] = 1
    with pytest.raises(BulkError) as caught:
        d.update(alice=1, bob=3, carol=1)
    assert caught.value.failures.keys() == {"alice", "carol"}
    assert d == shelf.values == {"alice": {"n": 1}, "bob": 3}


@pytest.mark.parametrize("strict_mode", [False, True])
def test_a_key_that_the_database_did_not_delete_stays(shelf: Shelf, strict_mode: bool) -> None:
    d = CachedDict(shelf, strict_mode)
    d.load()
    shelf.refuses = {"alice"}
    with pytest.raises(NeardictError, match="did not delete 'alice': nailed down"):
        del d["alice"]
    with pytest.raises(NeardictError, match="nailed down"):
        d.pop("alice")
    with pytest.raises(BulkError):
        d.clear()
    assert d == shelf.values == {"alice": {"n": 1}}


def test_deleting_a_missing_key_is_a_key_error_whatever_the_database_does(d: CachedDict) -> None:
    for over in (d, CachedDict(Bare())):
        with pytest.raises(KeyError):
            del over["nobody"]
        assert over.pop("nobody", 5) == 5


def test_an_object_that_has_the_methods_will_do() -> None:
    bare = Bare()
    d = CachedDict(bare)
    d["alice"] = 1
    d.load()
    assert d == bare.values == {"alice": 1}


def test_what_the_database_raises_is_passed_on_and_not_taken_for_an_absent_key(
    d: CachedDict, shelf: Shelf
) -> None:
    shelf.error = ConnectionError("unplugged")
    for use in (
        lambda: d["alice"],
        lambda: d.get("alice"),
        lambda: "alice" in d,
        lambda: d.setdefault("alice", 0),
        lambda: d.load(),
        lambda: d.pop("alice", None),
        lambda: d.save("alice"),
    ):
        with pytest.raises(ConnectionError, match="unplugged"):
            use()
    with pytest.raises(ConnectionError):
        d["alice"] = 1
    shelf.error = None
    assert d == {"alice": {"n": 1}, "bob": 2}


def test_one_damaged_value_is_left_out_and_told_of(
    d: CachedDict, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.damaged = {"alice"}
    d.load()
    assert dict(d) == {"bob": 2}
    assert "'alice'" in caplog.text
    with pytest.raises(ValueError, match="alice is damaged"):
        d["alice"]


def test_keys_that_are_no_text_are_refused(d: CachedDict, shelf: Shelf) -> None:
    with pytest.raises(NeardictError, match="key must be a str, not int"):
        d[5] = 1  # type: ignore[index]  # on purpose
    assert d.keys() == shelf.values.keys() == {"alice", "bob"}


def test_the_error_of_a_database_that_is_put_names_the_container(shelf: Shelf) -> None:
    shelf.error = ConnectionError("unplugged")
    storage = MoobiusStorage(1, 2)
    with pytest.raises(ConnectionError, match="unplugged") as caught:
        storage.put("health", shelf)
    assert caught.value.__notes__ == ["(container 'health')"]
    shelf.error = None
    storage.put("health", shelf, clear=True)
    assert shelf.values == storage.health == {}


def test_what_keeps_its_time_to_live_needs_an_entry(d: CachedDict, shelf: Shelf) -> None:
    d["alice"]["n"] = 2
    del shelf.values["alice"]
    with pytest.raises(KeyError):
        d.save("alice")
    with pytest.raises(KeyError):
        d.set("absent", 1, keep_ttl=True)
    assert shelf.values == {"bob": 2}
    d.set("bob", 3, keep_ttl=True)
    assert shelf.values == {"bob": 3}


def test_null_storage_says_so_once_for_each_container(caplog: pytest.LogCaptureFixture) -> None:
    MoobiusStorage(1, 2, {"implementation": "null", "name": "d"})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "container 'd': its implementation is null, so that nothing is stored"


def test_several_threads_lose_nothing(shelf: Shelf) -> None:
    d = CachedDict(shelf)
    d["n"] = 0

    def increment() -> None:
        for _ in range(50):
            d.edit("n", lambda n: n + 1)

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d["n"] == shelf.values["n"] == 200
