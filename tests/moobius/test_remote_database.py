"""RemoteDatabase: by itself, and given to the classes of the SDK itself."""

import copy
import gc
import importlib
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import InvalidArgumentError, UnavailableError
from neardict.moobius import CachedDict, DatabaseInterface, MoobiusStorage, RemoteDatabase
from served import Served

Domains = Callable[[str], str]

# Imported so, since the SDK has no types.
sdk: Any = importlib.import_module("moobius.database.storage")


@pytest.fixture
def database(target: str, domain: Domains, engine: str) -> RemoteDatabase:
    return RemoteDatabase(domain(engine), target=target)


class Counting(RemoteDatabase):
    """A database of the user's own, on top of ours."""

    reads = 0

    def get_value(self, key: str) -> tuple[bool, Any]:
        self.reads += 1
        return super().get_value(key)


def test_the_four_methods_answer_in_pairs(database: RemoteDatabase) -> None:
    assert isinstance(database, DatabaseInterface)
    found, message = database.get_value("alice")
    assert not found
    assert "'alice'" in message
    assert database.set_value("alice", {"n": 1}) == (True, "alice")
    assert database.get_value("alice") == (True, {"n": 1})
    assert database.set_value("nothing", None) == (True, "nothing")
    assert database.get_value("nothing") == (True, None)
    assert sorted(database.all_keys()) == ["alice", "nothing"]
    assert database.delete_key("alice") == (True, "alice")
    deleted, message = database.delete_key("alice")
    assert not deleted
    assert "'alice'" in message


def test_what_is_not_stored_is_answered_with_the_reason(database: RemoteDatabase) -> None:
    for key, value, reason in (
        ("k", (1, 2), "is a tuple"),
        ("k", "x" * 2**21, "limit"),
        ("", 1, "key"),
        ("nul\0", 1, "key"),
        (7, 1, "key must be a str, not int"),
    ):
        stored, message = database.set_value(key, value)  # type: ignore[arg-type]  # on purpose
        assert not stored
        assert reason in message
    assert list(database.all_keys()) == []
    for key in ("", "nul\0", 7):
        assert database.get_value(key)[0] is False  # type: ignore[arg-type]  # on purpose
        assert database.delete_key(key)[0] is False  # type: ignore[arg-type]  # on purpose


def test_a_failure_is_never_taken_for_an_absent_key(target: str) -> None:
    database = RemoteDatabase("nobody.serves.this")
    with pytest.raises(InvalidArgumentError, match="no backend is configured"):
        database.get_value("alice")
    with pytest.raises(InvalidArgumentError, match="no backend is configured"):
        list(database.all_keys())
    stored, message = database.set_value("alice", 1)
    assert not stored
    assert "no backend is configured" in message
    # In the SDK's dict, False would have been a KeyError, and the default would overwrite what is stored.
    with pytest.raises(Exception, match="no backend is configured") as caught:
        sdk.CachedDict(database)["alice"]
    assert not isinstance(caught.value, KeyError)


def test_an_outage_is_never_taken_for_an_absent_key() -> None:
    with pytest.raises(UnavailableError):
        RemoteDatabase("domain", "127.0.0.1:1").get_value("alice")


def test_it_tells_what_it_is(server: Served) -> None:
    database = RemoteDatabase("a.b", server.address)
    assert str(database) == repr(database) == f"RemoteDatabase('a.b', target='{server.address}')"
    assert (database.domain, database.target) == ("a.b", server.address)


def test_mistakes_are_found_at_once() -> None:
    with pytest.raises(InvalidArgumentError, match="domain must be a str"):
        RemoteDatabase(7)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidArgumentError, match="target"):
        RemoteDatabase("a.b", "https://somewhere")


def test_a_listing_outlives_its_database(target: str, domain: Domains) -> None:
    # Of a connection that nothing else keeps open.
    with neardict.connect(target) as store:
        store.set_many(domain("memory"), dict.fromkeys("abc", 1))
    keys = RemoteDatabase(domain("memory"), target.replace("127.0.0.1", "localhost")).all_keys()
    assert sorted(keys) == ["a", "b", "c"]


def test_databases_of_one_target_share_a_connection_that_ends_with_the_last(server: Served) -> None:
    target = server.address.replace("127.0.0.1", "localhost")
    one, other = RemoteDatabase("a.memory", target), RemoteDatabase("b.memory", target)
    assert other.store is one.store
    store, ending = weakref.ref(one.store), one.store._executing._thread
    del one
    other.set_value("alice", 1)
    assert ending is not None
    assert ending.is_alive()
    del other
    gc.collect()
    assert store() is None
    ending.join(20)
    assert not ending.is_alive()
    assert RemoteDatabase("b.memory", target).get_value("alice") == (True, 1)


def test_it_can_be_sent_to_another_process(database: RemoteDatabase) -> None:
    database.set_value("alice", 1)
    for again in (pickle.loads(pickle.dumps(database)), copy.deepcopy(database)):
        assert str(again) == str(database)
        assert again.get_value("alice") == (True, 1)


def test_a_class_on_top_of_it_has_its_methods_called(target: str, domain: Domains) -> None:
    database = Counting(domain("memory"))
    d = CachedDict(database)
    d["alice"] = 1
    d.refresh()
    assert d == {"alice": 1}
    assert database.reads > 0


# The SDK's own classes.


def test_the_dict_of_the_sdk_works_on_it(database: RemoteDatabase) -> None:
    d = sdk.CachedDict(database, strict_mode=True)
    d["alice"] = {"n": 1}
    d["bob"] = [1, 2]
    d["alice"]["n"] += 1
    d.save("alice")
    assert database.get_value("alice") == (True, {"n": 2})
    again = sdk.CachedDict(database)
    with pytest.raises(KeyError):
        again["nobody"]
    again.load()
    assert again == {"alice": {"n": 2}, "bob": [1, 2]}
    assert again.pop("bob") == [1, 2]
    del again["alice"]
    assert list(database.all_keys()) == []
    with pytest.raises(Exception, match="is a tuple"):
        d["carol"] = (1, 2)


def test_the_storage_of_the_sdk_works_on_it(database: RemoteDatabase) -> None:
    database.set_value("alice", 1)
    storage = sdk.MoobiusStorage("1", "2")
    storage.put("health", database)
    assert storage.health == {"alice": 1}
    storage.health["bob"] = 2
    again = sdk.MoobiusStorage("1", "2")
    again.put("health", database, load=False)
    assert again.health["bob"] == 2
    again.health.load()
    again.health.clear()
    assert list(database.all_keys()) == []


def test_the_sdk_and_the_drop_in_share_their_data(target: str, channel: str, engine: str) -> None:
    ours = MoobiusStorage("1", channel, {"implementation": engine, "name": engine})
    theirs = sdk.MoobiusStorage("1", channel)
    theirs.put(engine, RemoteDatabase(f"service_1.channel_{channel}.{engine}"))
    getattr(theirs, engine)["alice"] = {"n": 1}
    # One connection, so that our dict hears of it.
    assert getattr(ours, engine) == {"alice": {"n": 1}}
    getattr(ours, engine)["bob"] = 2
    assert getattr(theirs, engine)["bob"] == 2


def test_both_have_the_same_public_names() -> None:
    for theirs, ours in ((sdk.MoobiusStorage, MoobiusStorage), (sdk.CachedDict, CachedDict)):
        assert {name for name in vars(theirs) if not name.startswith("_")} <= set(dir(ours))
    interface: Any = importlib.import_module("moobius.database.database_interface").DatabaseInterface
    assert {name for name in vars(interface) if not name.startswith("_")} <= set(dir(DatabaseInterface))
