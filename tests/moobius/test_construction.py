"""MoobiusStorage and its db_config."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neardict
import neardict.moobius
from neardict import InvalidArgumentError, UnavailableError
from neardict.moobius import CachedDict, MoobiusStorage, RemoteDatabase

Domains = Callable[[str], str]

# Nothing listens here.
NOBODY = "127.0.0.1:1"


def entry(**fields: Any) -> dict[str, Any]:
    return {"implementation": "memory", "name": "memory", "settings": {}} | fields


def test_the_public_names_are_these() -> None:
    assert neardict.moobius.__all__ == ["CachedDict", "DatabaseInterface", "MoobiusStorage", "RemoteDatabase"]
    for name in neardict.moobius.__all__:
        assert getattr(neardict.moobius, name).__doc__


def test_each_entry_becomes_an_attribute_that_is_a_cached_dict(target: str, channel: str) -> None:
    storage = MoobiusStorage(
        service_id="1", channel_id=channel, db_config=[entry(), entry(implementation="json", name="json")]
    )
    assert (storage.service_id, storage.channel_id) == ("1", channel)
    assert type(storage.memory) is type(storage.json) is CachedDict
    assert isinstance(storage.memory, neardict.CachedDict)
    assert storage.memory.strict_mode is False
    assert isinstance(storage.memory.database, RemoteDatabase)


def test_containers_have_domains_of_their_own(target: str, channel: str, elsewhere: neardict.Store) -> None:
    storage = MoobiusStorage("1", channel, [entry(name="json"), entry(name="more"), entry(name="redis")])
    storage.json["alice"], storage.more["alice"], storage.redis["alice"] = 1, 2, 3
    other = MoobiusStorage("2", channel, [entry(name="json")])
    assert not other.json
    for value, name in enumerate(["json", "more", "redis"], 1):
        assert elsewhere.get_value(f"service_1.channel_{channel}.{name}", "alice") == value


@pytest.mark.parametrize("form", ["list", "tuple", "dict", "file", "file of one"])
def test_a_db_config_may_be_a_list_an_entry_or_a_file(
    form: str, target: str, channel: str, tmp_path: Path
) -> None:
    file = tmp_path / "db.JSON"
    file.write_text(json.dumps(entry() if form == "file of one" else [entry()]))
    given: Any = {"list": [entry()], "tuple": (entry(),), "dict": entry(), "file": str(file)}.get(form, file)
    storage = MoobiusStorage("1", channel, given)
    storage.memory["alice"] = 1
    assert MoobiusStorage("1", channel, [entry()]).memory == {"alice": 1}


@pytest.mark.parametrize("empty", [(), [], {}, None, ""])
def test_an_empty_db_config_means_no_storage(empty: Any) -> None:
    storage = MoobiusStorage(1, 2, empty)
    assert vars(storage) == {"service_id": 1, "channel_id": 2}
    assert vars(MoobiusStorage(1, 2)) == vars(storage)


def test_an_empty_file_of_entries_means_no_storage(tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text("[]")
    assert not hasattr(MoobiusStorage(1, 2, tmp_path / "db.json"), "memory")


def test_entries_are_not_changed(target: str, channel: str) -> None:
    given = [entry(load=False, settings={"target": target, "root_dir": "json_db"}), entry(name="json")]
    before = copy.deepcopy(given)
    MoobiusStorage("1", channel, given)
    assert given == before


@pytest.mark.parametrize(
    "spelling",
    [
        *("json", "jsondb", "jsondatabase", " JSON "),
        *(
            "redis",
            "redi",
            "redisdb",
            "ready",
            "redisdatabase",
            "the linux one",
            "The Linux One",
            "RedisDB\n",
        ),
        *("sqlite", "memory", "grpc"),
    ],
)
def test_spellings_that_mean_storage_at_the_service(spelling: str, target: str, channel: str) -> None:
    # Which engine it is is the service's affair, so here each is served from memory.
    MoobiusStorage("1", channel, entry(implementation=spelling)).memory["alice"] = spelling
    assert MoobiusStorage("1", channel, entry()).memory["alice"] == spelling


@pytest.mark.parametrize(
    "spelling", ["null", "none", "None", " FALSE ", "nulldb", "NullDatabase", None, False]
)
def test_spellings_that_mean_no_storage(spelling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDICT_TARGET", NOBODY)
    storage = MoobiusStorage(1, 2, entry(implementation=spelling))
    storage.memory["alice"] = 1
    assert storage.memory == {"alice": 1}
    assert not MoobiusStorage(1, 2, entry(implementation=spelling)).memory


@pytest.mark.parametrize("service_id", [None, 7, "a/b", "../x", "a.b", "snow☃man", 'quo"te', ""])
def test_ids_may_be_anything(service_id: Any, target: str, channel: str, elsewhere: neardict.Store) -> None:
    storage = MoobiusStorage(service_id, channel, entry(implementation="json", name="json"))
    storage.json["alice"] = 1
    assert MoobiusStorage(service_id, channel, entry(name="json")).json == {"alice": 1}
    assert elsewhere.get_value(f"service_{service_id}.channel_{channel}.json", "alice") == 1


def test_the_target_of_the_settings_comes_before_that_of_the_environment(
    target: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARDICT_TARGET", NOBODY)
    storage = MoobiusStorage("1", channel, entry(settings={"target": target}))
    storage.memory["alice"] = 1
    assert storage.memory.database.target == target


@pytest.mark.parametrize(
    ("mistaken", "path"),
    [
        ([entry(), 7], "db_config.1: "),
        ([entry(), entry()], "db_config.1.name: 'memory' is taken"),
        ([{"name": "x", "settings": {}}], "db_config.0.implementation: is missing"),
        ([{"implementation": "json"}], "db_config.0.name: is missing"),
        (entry(name=""), "db_config.0.name: "),
        (entry(name=7), "db_config.0.name: "),
        (entry(name=None), "db_config.0.name: "),
        (entry(name="a.b"), "db_config.0.name: "),
        (entry(name="put"), "db_config.0.name: 'put' is taken"),
        (entry(name="add_container"), "db_config.0.name: "),
        (entry(name="service_id"), "db_config.0.name: "),
        (entry(name="__class__"), "db_config.0.name: "),
        (entry(implementation="mongo"), "db_config.0.implementation: 'mongo' is none of grpc, json"),
        (entry(implementation=True), "db_config.0.implementation: "),
        (entry(clear="false"), "db_config.0.clear: must be true or false"),
        (entry(load=1), "db_config.0.load: must be true or false"),
        (entry(setings={}), "db_config.0.setings: is unknown"),
        (entry(settings=[]), "db_config.0.settings: must be a dict"),
        (entry(settings={"target": 50051}), "db_config.0.settings.target: "),
        (7, "db_config: "),
        ("db.toml", "db_config: 'db.toml' must be"),
    ],
)
def test_mistakes_name_their_path_before_anything_is_done(mistaken: Any, path: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        MoobiusStorage(1, 2, mistaken)
    assert str(caught.value).startswith(path)


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "db.json"
    file.write_text('[{"name": "x"}]')
    with pytest.raises(InvalidArgumentError, match=r"db\.json: db_config\.0\.implementation: is missing"):
        MoobiusStorage(1, 2, file)
    file.write_text("[\n{]")
    with pytest.raises(InvalidArgumentError, match=r"db\.json is not JSON: .* at line 2"):
        MoobiusStorage(1, 2, file)
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        MoobiusStorage(1, 2, str(tmp_path / "missing.json"))


def test_a_mistake_in_the_last_entry_stops_the_first_from_being_cleared(target: str, channel: str) -> None:
    MoobiusStorage("1", channel, entry()).memory["alice"] = 1
    with pytest.raises(InvalidArgumentError):
        MoobiusStorage("1", channel, [entry(clear=True), entry(name="other", implementation="mongo")])
    assert MoobiusStorage("1", channel, entry()).memory == {"alice": 1}


def test_unknown_settings_warn_by_name_without_their_values(
    target: str, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"root_dir": "x", "host": "h", "port": 1, "pasword": "secret-1", "password": "secret-2"}
    MoobiusStorage("1", channel, entry(implementation="redis", name="redis", settings=settings))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "container 'redis'.settings.root_dir: has no effect, redis has no such setting",
        "container 'redis'.settings.pasword: has no effect, redis has no such setting",
    ]
    assert "secret" not in caplog.text


def test_secrets_are_in_no_error_and_no_repr(channel: str) -> None:
    settings = {"password": "secret-1", "url": "redis://u:secret-2@h", "target": NOBODY}
    given = entry(implementation="redis", settings=settings, load=False)
    storage = MoobiusStorage("1", channel, given)
    assert "secret" not in repr(storage) + repr(storage.memory.database)
    for mistaken in (given | {"load": 1}, given | {"nme": 1}, given | {"implementation": "rediss"}):
        with pytest.raises(InvalidArgumentError) as caught:
            MoobiusStorage("1", channel, mistaken)
        assert "secret" not in str(caught.value)


def test_the_error_of_a_container_is_raised_and_names_it() -> None:
    given = entry(name="health", settings={"target": NOBODY})
    with pytest.raises(
        UnavailableError, match=r"container 'health': cannot reach neardict at 127\.0\.0\.1:1"
    ):
        MoobiusStorage(1, 2, given)


def test_a_container_that_the_service_does_not_serve_is_named(target: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"container 'health': no backend is configured"):
        MoobiusStorage(1, 2, entry(name="health"))


def test_add_container_takes_its_arguments_in_the_order_of_the_sdk(target: str, channel: str) -> None:
    storage = MoobiusStorage("1", channel)
    storage.add_container("json", {"root_dir": "anywhere"}, "json", True, False)
    storage.add_container(implementation="Memory", settings=None, name="memory", load=False, clear=True)
    storage.json["alice"] = 1
    assert storage.json == {"alice": 1}
    assert storage.memory == {}
    with pytest.raises(InvalidArgumentError, match="'json' is taken"):
        storage.add_container("json", {}, "json")
    assert storage.json == {"alice": 1}


def test_put_makes_an_attribute_over_any_database(target: str, domain: Domains) -> None:
    storage = MoobiusStorage(1, 2)
    storage.put("mine", RemoteDatabase(domain("memory")), True, False)
    storage.mine["alice"] = 1
    storage.put(attr_name="again", database=RemoteDatabase(domain("memory"), target), load=False)
    assert storage.again == {"alice": 1}
    for taken in ("mine", "put", "", 7):
        with pytest.raises(InvalidArgumentError, match="choose another name"):
            storage.put(taken, RemoteDatabase(domain("memory")))  # type: ignore[arg-type]  # on purpose


def test_repr_tells_what_it_is(target: str, channel: str) -> None:
    assert repr(MoobiusStorage("1", channel, entry())) == (
        f"MoobiusStorage(service_id='1', channel_id='{channel}', containers=['memory'])"
    )
