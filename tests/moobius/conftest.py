"""A service that was given a db_config with every engine, and storages of it."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict.moobius import CachedDict, MoobiusStorage
from redis_server import RedisServer
from served import Served
from waiting import DEADLINE_SECONDS

ENGINES = ["json", "redis", "sqlite", "memory"]


@pytest.fixture(scope="session")
def db_config(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> list[dict[str, Any]]:
    """Entries named as their engines, and a second one of json in the same folder."""
    settings: dict[str, dict[str, Any]] = {
        "json": {"root_dir": str(tmp_path_factory.mktemp("moobius") / "json_db")},
        "redis": {
            "host": redis.host,
            "port": redis.port,
            "db": None,
            "command_timeout_seconds": DEADLINE_SECONDS,
        },
    }
    settings["more"] = settings["json"]
    return [
        {
            "implementation": "json" if name == "more" else name,
            "name": name,
            "settings": settings.get(name, {}),
        }
        for name in [*ENGINES, "more"]
    ]


@pytest.fixture(scope="session")
def root(db_config: list[dict[str, Any]]) -> Path:
    """The folder of the json containers."""
    return Path(db_config[0]["settings"]["root_dir"])


@pytest.fixture(scope="session")
def server(db_config: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("server")
    file = folder / "db.json"
    file.write_text(json.dumps(db_config))
    with Served("--config", file, "--data", folder / "data") as served:
        yield served


@pytest.fixture
def target(server: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the service, also in NEARDICT_TARGET."""
    monkeypatch.setenv("NEARDICT_TARGET", server.address)
    return server.address


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def storage(target: str, channel: str) -> Callable[..., MoobiusStorage]:
    """Makes a storage of the test's channel with a container on the engine named first."""

    def make(engine: str, **entry: Any) -> MoobiusStorage:
        fields = {"implementation": engine, "name": engine, "settings": {}} | entry
        return MoobiusStorage("1", channel, [fields])

    return make


@pytest.fixture
def container(storage: Callable[..., MoobiusStorage]) -> Callable[..., CachedDict]:
    """Makes the container itself, of a storage that is not kept."""

    def make(engine: str, **entry: Any) -> CachedDict:
        found = getattr(storage(engine, **entry), engine)
        assert isinstance(found, CachedDict)
        return found

    return make


@pytest.fixture
def elsewhere(target: str) -> Iterator[neardict.Store]:
    """Another connection, whose writes no dict of the process hears of."""
    with neardict.connect(target) as store:
        yield store


@pytest.fixture
def domain(channel: str) -> Callable[[str], str]:
    """Returns the domain of a container of the test's channel."""
    return lambda name: f"service_1.channel_{channel}.{name}"
