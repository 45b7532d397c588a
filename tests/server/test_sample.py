"""deploy/neardict.sample.toml shows every setting there is, with its default, and a server runs with it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import BaseModel

from neardict.v1 import storage_pb2 as pb
from neardict_server.config import Config, load
from neardict_server.limits import Limits
from redis_server import RedisServer
from served import Served
from wire import ask

SAMPLE = Path(__file__).parents[2] / "deploy" / "neardict.sample.toml"
TEXT = SAMPLE.read_text()
# With the settings that are not given by default, which stand behind a `#` without a blank.
WHOLE = tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", TEXT, flags=re.MULTILINE))
GIVEN = tomllib.loads(TEXT)
IMPLEMENTATIONS = {point.name: point for point in metadata.entry_points(group="neardict.backends")}


def same_as_the_model(model: type[BaseModel], given: dict[str, Any], whole: dict[str, Any]) -> None:
    """Fails unless `whole` names every setting of the model, and `given` those that have a default."""
    assert set(whole) == set(model.model_fields)
    defaults = model()
    for name in model.model_fields:
        default = getattr(defaults, name)
        if default is None:
            assert name not in given, f"{name} is not given by default"
        else:
            assert type(default)(given[name]) == default, name


def test_the_server_accepts_it() -> None:
    config = load(SAMPLE, environ={})
    assert config.default == "sqlite"


def test_it_shows_every_setting_of_the_server_with_its_default() -> None:
    assert set(WHOLE) == set(Config.model_fields)
    defaults = Config()
    for name in (
        "listen",
        "data_dir",
        "default",
        "shutdown_grace_seconds",
        "heartbeat_seconds",
        "lease_seconds",
    ):
        assert str(GIVEN[name]) == str(getattr(defaults, name))
    same_as_the_model(Limits, GIVEN["limits"], WHOLE["limits"])


@pytest.mark.parametrize("name", ["json", "memory", "null", "redis", "sqlite"])
def test_it_shows_every_setting_of_a_backend_with_its_default(name: str) -> None:
    entry = WHOLE["backends"][name]
    assert entry["implementation"] == name
    assert GIVEN["backends"][name].keys() == entry.keys()
    model = IMPLEMENTATIONS[name].load().Settings
    same_as_the_model(model, GIVEN["backends"][name].get("settings", {}), entry.get("settings", {}))


def test_it_shows_every_backend_and_a_route_to_each() -> None:
    ours = {name for name, point in IMPLEMENTATIONS.items() if point.value.startswith("neardict_server.")}
    assert set(WHOLE["backends"]) == ours
    assert {route["backend"] for route in WHOLE["routes"]} | {WHOLE["default"]} == ours


def test_each_setting_that_is_not_given_by_default_is_accepted_when_it_is() -> None:
    # Some need others, and a file must exist, wherever this system has it.
    needed: dict[str, dict[str, Any]] = {
        "ssl_ca_file": {"ssl_ca_file": str(SAMPLE), "ssl": True},
        "username": {"password": "..."},
    }
    for name, entry in WHOLE["backends"].items():
        model = IMPLEMENTATIONS[name].load().Settings
        every = entry.get("settings", {})
        for setting in every.keys() - GIVEN["backends"][name].get("settings", {}).keys():
            model.model_validate({setting: every[setting]} | needed.get(setting, {}))


def test_a_comment_says_what_each_setting_is() -> None:
    for paragraph in re.split(r"\n\n+", TEXT):
        settings = [line for line in paragraph.splitlines() if re.match(r"#?[a-z_]+ = ", line)]
        explained = any(line.startswith("# ") for line in paragraph.splitlines())
        for line in settings:
            assert explained or " # " in line, line


def test_a_server_runs_with_it(tmp_path: Path, redis: RedisServer) -> None:
    elsewhere = {"NEARDICT_BACKENDS__REDIS__SETTINGS__PORT": str(redis.port)}
    arguments = ("--config", SAMPLE, "--data", tmp_path / "data", "--listen", "127.0.0.1:0")
    with (
        Served(*arguments, env=elsewhere, cwd=tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for domain in ("session.of.the.sample", "documents.a", "scratch", "off.x", "anything"):
            write = pb.SetValueRequest(domain=domain, key="key", value=pb.Value(json="1"))
            assert isinstance(ask(channel, "SetValue", write), bytes)
        assert server.stop() == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {"json", "neardict.sqlite3"}
