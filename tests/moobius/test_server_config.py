"""The same db_config, read by the server."""

import json
from pathlib import Path
from typing import Any

import pytest

from neardict.moobius import config as of_the_client
from neardict_server.config import ConfigError, load
from neardict_server.config import moobius as of_the_server
from neardict_server.config.moobius import from_db_config


def entry(**fields: Any) -> dict[str, Any]:
    return {"implementation": "memory", "name": "d", "settings": {}} | fields


def test_each_name_is_routed_to_its_engine() -> None:
    read = from_db_config(
        [
            entry(implementation=" JSON ", name="health", settings={"root_dir": "json_db"}, load=False),
            entry(
                implementation="The Linux One", name="mana", settings={"host": "h", "db": None}, clear=True
            ),
        ]
    )
    assert read == {
        "backends": {
            "db_config.0": {"implementation": "json", "settings": {"root_dir": "json_db"}},
            "db_config.1": {"implementation": "redis", "settings": {"host": "h"}},
        },
        "routes": [
            {"domain": "health", "backend": "db_config.0"},
            {"domain": "*.health", "backend": "db_config.0"},
            {"domain": "mana", "backend": "db_config.1"},
            {"domain": "*.mana", "backend": "db_config.1"},
        ],
    }


def test_names_with_signs_of_patterns_match_themselves_alone() -> None:
    (exact, below) = from_db_config(entry(name="a*[b]?"))["routes"]
    assert (exact["domain"], below["domain"]) == ("a[*][[]b][?]", "*.a[*][[]b][?]")


def test_entries_with_the_same_engine_and_settings_share_it() -> None:
    read = from_db_config(
        [
            entry(implementation="json", name="a", settings={"root_dir": "json_db"}),
            entry(implementation="json", name="b", settings={"root_dir": "./json_db"}),
            entry(implementation="json", name="c", settings={"root_dir": "other"}),
            entry(implementation="sqlite", name="d"),
            entry(implementation="grpc", name="e", settings={"target": "host:1"}),
            entry(implementation=None, name="f", settings={"root_dir": "x"}),
            entry(implementation=False, name="g"),
        ]
    )
    backends = {route["domain"]: route["backend"] for route in read["routes"]}
    assert [backends[name] for name in "abcdefg"] == [
        f"db_config.{number}" for number in (0, 0, 2, 3, 3, 5, 5)
    ]
    assert read["backends"].keys() == set(backends.values())
    assert read["backends"]["db_config.3"]["implementation"] == "sqlite"
    assert read["backends"]["db_config.5"] == {"implementation": "null", "settings": {}}


def test_without_a_root_dir_files_are_where_the_sdk_has_them() -> None:
    read = from_db_config(entry(implementation="json"))
    assert read["backends"]["db_config.0"]["settings"] == {"root_dir": "."}


def test_unknown_settings_are_left_out_with_a_warning_that_names_the_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {"root_dir": "json_db", "password": "secret-1", "pasword": "secret-2", "target": "host:1"}
    read = from_db_config([entry(name="x"), entry(implementation="redis", settings=settings)])
    assert read["backends"]["db_config.1"]["settings"] == {"password": "secret-1"}
    assert [record.getMessage() for record in caplog.records] == [
        "db_config.1.settings.root_dir: is left out, redis has no such setting",
        "db_config.1.settings.pasword: is left out, redis has no such setting",
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("mistaken", "message"),
    [
        ([], "db_config: must be"),
        ("json", "db_config: must be"),
        ([entry(), 7], "db_config.1: must be an object"),
        ([entry(), entry()], "db_config.1.name: 'd' is the name of an earlier entry"),
        ({"name": "d"}, "db_config.0.implementation: is missing"),
        ({"implementation": "json"}, "db_config.0.name: "),
        (entry(name="a.b"), "db_config.0.name: "),
        (entry(implementation="mongo"), "db_config.0.implementation: 'mongo' is none of"),
        (entry(implementation=True), "db_config.0.implementation: True is none of"),
        (entry(clear="false"), "db_config.0.clear: must be true or false"),
        (entry(load=None), "db_config.0.load: must be true or false"),
        (entry(setings={}), "db_config.0.setings: is unknown"),
        (entry(settings=[]), "db_config.0.settings: must be an object"),
    ],
)
def test_mistakes_name_their_path(mistaken: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_db_config(mistaken)
    assert str(caught.value).startswith(message)


def test_a_file_is_read_with_the_rest_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "db.json"
    file.write_text(json.dumps(entry(name="health")))
    read = load(file, environ={"NEARDICT_LISTEN": "127.0.0.1:7"})
    assert read.listen == "127.0.0.1:7"
    assert read.backends["db_config.0"].implementation == "memory"
    assert read.default is None


def test_client_and_server_know_the_same_spellings_and_settings() -> None:
    # Neither imports the other.
    spellings = of_the_server.IMPLEMENTATIONS | {"grpc": "grpc"}
    assert spellings == of_the_client.IMPLEMENTATIONS
    for implementation, known in of_the_client.SETTINGS.items():
        if implementation != "grpc":
            settings = dict.fromkeys(known, 1)
            read = from_db_config(entry(implementation=implementation, settings=settings))
            assert read["backends"]["db_config.0"]["settings"].keys() >= known
    redis: Any = pytest.importorskip("neardict_server.backends.redis").RedisBackend.Settings.model_fields
    assert redis.keys() == of_the_client.SETTINGS["redis"]
