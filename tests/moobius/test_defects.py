"""Defects of the Moobius SDK's storage that must not come back, each on the engines that it concerns."""

import datetime
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import (
    BulkError,
    DataLossError,
    InvalidArgumentError,
    LimitExceededError,
    UnsupportedValueError,
)
from neardict.moobius import CachedDict, MoobiusStorage, RemoteDatabase
from redis_server import RedisServer
from served import Served

Containers = Callable[..., CachedDict]
Domains = Callable[[str], str]

TOO_LARGE = "x" * (1024 * 1024 + 1)


@pytest.fixture
def folder(root: Path, channel: str) -> Path:
    """Where the json container of the test's channel keeps its files."""
    return root / "service_1" / f"channel_{channel}" / "json"


# The dict.


@pytest.mark.parametrize("load", [True, False])
def test_clear_true_deletes_everything_that_is_stored(container: Containers, engine: str, load: bool) -> None:
    container(engine).update(alice=1, bob=2)
    cleared = container(engine, clear=True, load=load)
    assert cleared == {}
    assert container(engine) == {}
    cleared["carol"] = 3
    assert container(engine) == {"carol": 3}


def test_one_unreadable_file_is_left_out_and_the_container_stays(
    container: Containers, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    container("json").update(alice=1, bob=2, carol=3)
    (folder / "bob.json").write_text('{"torn')
    d = container("json")
    assert dict(d) == {"alice": 1, "carol": 3}
    assert "'bob'" in caplog.text
    for look in (lambda: d["bob"], lambda: "bob" in d, lambda: d.get("bob")):
        with pytest.raises(DataLossError):
            look()
    d["bob"] = 4
    assert container("json") == {"alice": 1, "bob": 4, "carol": 3}


def test_errors_of_a_container_are_raised(target: str, channel: str) -> None:
    # Of a service that is not there, and so on: in test_construction.
    entries = [{"implementation": "json", "name": name} for name in ("json", "unheard_of")]
    with pytest.raises(InvalidArgumentError, match="container 'unheard_of': no backend is configured"):
        MoobiusStorage("1", channel, entries)
    with pytest.raises(InvalidArgumentError, match=r"container .json.: .*domain"):
        MoobiusStorage("1", "7" * 300, entries)


def test_reading_writes_nothing(
    container: Containers, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    revision = elsewhere.set_value(domain(engine), "alice", {"hp": 7})
    for load in (True, False):
        d = container(engine, load=load)
        assert d["alice"] == d.get("alice") == {"hp": 7}
        assert list(d.values()) == [{"hp": 7}]
        assert "nobody" not in d
    entry = elsewhere.get_entry(domain(engine), "alice")
    assert entry is not None
    assert entry.revision == revision
    assert list(elsewhere.all_keys(domain(engine))) == ["alice"]


def test_every_method_sees_what_is_stored_and_not_only_what_was_used(
    container: Containers, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    elsewhere.set_many(domain(engine), {"alice": 1, "bob": 2, "carol": 3})

    def fresh() -> CachedDict:
        return container(engine, load=False)

    assert fresh().get("alice") == 1
    assert "alice" in fresh()
    assert len(fresh()) == 3
    assert sorted(fresh()) == ["alice", "bob", "carol"]
    assert sorted(fresh().values()) == [1, 2, 3]
    assert fresh() == {"alice": 1, "bob": 2, "carol": 3}
    assert fresh().pop("alice") == 1
    assert fresh().popitem()[0] in ("bob", "carol")
    assert len(fresh()) == 1
    fresh().clear()
    assert list(elsewhere.all_keys(domain(engine))) == []


def test_every_way_to_write_persists(
    container: Containers, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    d = container(engine)
    d.update({"a": 1}, b=2)
    assert d.setdefault("c", [3]) == [3]
    assert d.setdefault("a", 100) == 1
    d |= {"d": 4}
    d |= [("e", 5)]
    assert type(d) is CachedDict
    stored = {entry.key: entry.value for entry in elsewhere.all_entries(domain(engine))}
    assert stored == dict(d) == {"a": 1, "b": 2, "c": [3], "d": 4, "e": 5}
    taken, _ = d.popitem()
    assert taken not in list(elsewhere.all_keys(domain(engine)))
    d.clear()
    assert list(elsewhere.all_keys(domain(engine))) == []


def test_deleting_a_missing_key_is_a_key_error_on_every_engine(container: Containers, engine: str) -> None:
    d = container(engine)
    with pytest.raises(KeyError, match="nobody"):
        del d["nobody"]
    with pytest.raises(KeyError, match="nobody"):
        d.pop("nobody")
    assert d.database.delete_key("nobody")[0] is False


@pytest.mark.parametrize("strict_mode", [False, True])
def test_a_save_that_failed_is_raised_and_does_not_stay(
    target: str, domain: Domains, engine: str, strict_mode: bool
) -> None:
    d = CachedDict(RemoteDatabase(domain(engine)), strict_mode=strict_mode)
    d.load()
    d["alice"] = {"hp": 7}
    with pytest.raises(LimitExceededError):
        d["alice"] = TOO_LARGE
    with pytest.raises(LimitExceededError):
        d["bob"] = TOO_LARGE
    assert d == {"alice": {"hp": 7}}
    d["alice"]["seen"] = {"bob"}  # a set
    with pytest.raises(UnsupportedValueError):
        d.save("alice")
    assert d == {"alice": {"hp": 7}}


@pytest.mark.parametrize("strict_mode", [False, True])
def test_a_save_that_met_no_service_is_raised_and_does_not_stay(tmp_path: Path, strict_mode: bool) -> None:
    with Served("--data", tmp_path) as server:
        d = CachedDict(RemoteDatabase("domain", server.address), strict_mode=strict_mode)
        d.load()
        d.update(alice=1, carol=3)
        server.kill()
        with pytest.raises(BulkError):
            d.update(alice=2, bob=2)
        assert str(d) == "moobius.CachedDict({'carol': 3})"
    with Served("--data", tmp_path) as server:
        stored = CachedDict(RemoteDatabase("domain", server.address))
        assert stored == {"alice": 1, "carol": 3}


def test_what_json_has_not_is_kept_or_refused_by_its_type(container: Containers, engine: str) -> None:
    d = container(engine)
    kept = {"raw": b"\x00\xff", "none": None, "float": 0.1, "int": 2**53 + 1, "text": "é😀"}
    d.update(kept)
    assert container(engine) == kept
    refused: dict[str, Any] = {
        "tuple": (1, 2),
        "set": {1},
        "datetime": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        "int": {1: "one"},
        "bytes": [b"inside"],
    }
    for name, value in refused.items():
        with pytest.raises(UnsupportedValueError, match=name):
            d["refused"] = value
    assert container(engine) == kept


# Redis.


def test_a_redis_domain_is_found_again_by_every_process(
    tmp_path: Path, redis: RedisServer, channel: str
) -> None:
    entry = {"implementation": "redis", "name": "redis", "settings": {"port": redis.port, "db": None}}
    file = tmp_path / "db.json"
    file.write_text(json.dumps(entry))
    for seed in ("1", "2"):
        with Served("--config", file, "--data", tmp_path, env={"PYTHONHASHSEED": seed}) as server:
            script = (
                "import sys; from neardict.moobius import MoobiusStorage\n"
                "d = MoobiusStorage(1, sys.argv[1], sys.argv[2]).redis\n"
                "d['alice'] = d.get('alice', 0) + 1; print(d['alice'])"
            )
            done = subprocess.run(
                [sys.executable, "-c", script, channel, str(file)],
                env=os.environ | {"PYTHONHASHSEED": seed, "NEARDICT_TARGET": server.address},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == seed


def test_redis_domains_do_not_share_a_key_space(target: str, redis: RedisServer, channel: str) -> None:
    entry = {"implementation": "redis", "name": "redis"}
    one, other = (MoobiusStorage(service, channel, entry).redis for service in "12")
    one["alice"] = 1
    other["alice"] = 2
    assert (one, other) == ({"alice": 1}, {"alice": 2})
    one.clear()
    assert other == {"alice": 2}


def test_redis_is_never_asked_for_all_its_keys(container: Containers, redis: RedisServer) -> None:
    container("redis").update({str(number): number for number in range(100)})
    assert len(container("redis", load=False)) == 100
    with socket.create_connection((redis.host, redis.port)) as connection:
        connection.sendall(b"INFO commandstats\r\n")
        connection.shutdown(socket.SHUT_WR)
        statistics = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert "cmdstat_set:" in statistics or "cmdstat_hset:" in statistics
    assert "cmdstat_keys:" not in statistics


# JSON.


def test_no_key_and_no_domain_leaves_the_folder(root: Path, target: str, channel: str) -> None:
    before = {path for path in root.parent.rglob("*") if root not in path.parents}
    entry = {"implementation": "json", "name": "json"}
    hostile = ["../../escaped", "/tmp/escaped", "..", ".", "a/../../b", "CON", "x\\..\\y", "%2e%2e", "~"]
    for service in ("../../..", "..", "/", channel):
        d = MoobiusStorage(service, channel, entry).json
        d.update({key: key for key in hostile})
        assert MoobiusStorage(service, channel, entry).json == {key: key for key in hostile}
    assert {path for path in root.parent.rglob("*") if root not in path.parents} == before
    assert not Path("/tmp/escaped.json").exists()


def test_a_write_never_leaves_part_of_a_file(container: Containers, folder: Path) -> None:
    # The file is replaced whole: whoever has the old one open goes on to read the old value.
    d = container("json")
    d["alice"] = "x" * 100_000
    with (folder / "alice.json").open() as old:
        d["alice"] = "y" * 100_000
        assert json.load(old) == "x" * 100_000
    assert json.loads((folder / "alice.json").read_text()) == "y" * 100_000
    assert [path.name for path in folder.iterdir()] == ["alice.json"]


def test_a_dot_in_the_domain_and_a_slash_in_the_key_are_told_apart(
    container: Containers, target: str
) -> None:
    # In the SDK all three were the file json/more/c.json.
    outer = container("json")
    inner = RemoteDatabase(f"{outer.domain}.more")
    outer["more/c"] = "the key more/c"
    assert inner.set_value("c", "the key c") == (True, "c")
    assert outer == {"more/c": "the key more/c"}
    assert list(inner.all_keys()) == ["c"]
    assert inner.get_value("c") == (True, "the key c")


# Null.


def test_null_knows_no_key_and_logs_no_value(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    d = MoobiusStorage(1, 2, {"implementation": None, "name": "d", "settings": {"any": "thing"}}).d
    assert "nobody" not in d
    assert d.get("nobody", 5) == 5
    with pytest.raises(KeyError):
        d["nobody"]
    with pytest.raises(KeyError):
        del d["nobody"]
    assert len(d) == 0
    d["alice"] = "secret"
    d["alice"] += "s"
    d.save("alice")
    assert d == {"alice": "secrets"}
    assert d.pop("alice") == "secrets"
    assert not d
    assert "secret" not in caplog.text
    assert "null" in caplog.text
