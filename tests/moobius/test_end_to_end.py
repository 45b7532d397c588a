"""One db.json for the server and for MoobiusStorage, with restarts between; and a folder of the SDK's."""

import asyncio
import importlib
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import neardict
from neardict.moobius import MoobiusStorage
from redis_server import RedisServer
from served import Served

Stop = Callable[[Served], object]


@pytest.mark.parametrize(
    "stop", [lambda server: server.stop(signal.SIGTERM), Served.kill], ids=["stop", "kill"]
)
def test_data_of_one_db_json_is_there_after_a_restart_each_container_in_its_own_place(
    tmp_path: Path, redis: RedisServer, channel: str, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    file = tmp_path / "db.json"
    root = tmp_path / "json_db"
    file.write_text(
        json.dumps(
            [
                {"implementation": "json", "name": "health_bars", "load": True, "clear": False,
                 "settings": {"root_dir": str(root)}},
                {"implementation": "json", "name": "inventories", "load": False, "clear": False,
                 "settings": {"root_dir": str(root)}},
                {"implementation": "redis", "name": "mana_bars", "load": True, "clear": False,
                 "settings": {"root_dir": "json_db", "host": redis.host, "port": redis.port, "db": None,
                              "password": ""}},
            ]
        )
    )  # fmt: skip
    server = Served("--config", file, "--data", tmp_path / "data")
    with server:
        monkeypatch.setenv("NEARDICT_TARGET", server.address)
        storage = MoobiusStorage("1", channel, str(file))
        storage.health_bars["alice"] = {"hp": 7}
        storage.inventories["alice"] = ["sword"]
        storage.mana_bars["alice"] = {"mana": 3}
        storage.mana_bars["bob"] = {"mana": 4}
        stop(server)
    assert "*.mana_bars -> db_config.2 (redis)" in server.output
    assert "db_config.2.settings.root_dir: is left out, redis has no such setting" in server.output

    folder = root / "service_1" / f"channel_{channel}"
    assert (folder / "health_bars" / "alice.json").read_text().rstrip("\n") == '{\n  "hp": 7\n}'
    assert json.loads((folder / "inventories" / "alice.json").read_text()) == ["sword"]
    assert not (folder / "mana_bars").exists()
    in_redis = asyncio.run(hashes(redis, channel))
    assert list(in_redis) == [f"service_1.channel_{channel}.mana_bars"]
    (entries,) = in_redis.values()
    assert entries["alice"].endswith('{"mana":3}')
    assert entries.keys() == {"alice", "bob"}

    with Served("--config", file, "--data", tmp_path / "data") as server:
        monkeypatch.setenv("NEARDICT_TARGET", server.address)
        again = MoobiusStorage("1", channel, json.loads(file.read_text()))
        assert again.health_bars == {"alice": {"hp": 7}}
        assert again.inventories == {"alice": ["sword"]}
        assert again.mana_bars == {"alice": {"mana": 3}, "bob": {"mana": 4}}
        assert not MoobiusStorage("1", f"{channel}-other", file).mana_bars


async def hashes(server: RedisServer, channel: str) -> dict[str, dict[str, str]]:
    """Returns the entries of the channel's domains as they are stored, by domain."""
    found: dict[str, Any] = {}
    async with Redis(host=server.host, port=server.port, decode_responses=True) as redis:
        async for name in redis.scan_iter(match=f"*channel_{channel}*}}", _type="hash"):
            domain = name[name.index("{") + 1 : name.index("}")]
            found[domain] = await redis.hgetall(name)
    return found


@dataclass
class Player:
    name: str
    hp: int


def test_a_folder_that_the_sdk_filled_is_served_as_it_is_and_stays_readable_for_it(
    tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk: Any = importlib.import_module("moobius.database.storage")
    root = tmp_path / "json_db"
    entry = {"implementation": "json", "name": "d", "settings": {"root_dir": str(root)}}
    values: dict[str, Any] = {
        "alice": {"hp": 7, "tags": ["a", None]},
        "bob.smith": "é😀",
        "carol@x": [1, 2.5],
        "dave": Player("dave", 8),
        "erin": [Player("erin", 9)],
    }
    theirs = sdk.MoobiusStorage("1", channel, [entry]).d
    for key, value in values.items():
        theirs[key] = value
    neardict.register(Player)

    file = tmp_path / "db.json"
    file.write_text(json.dumps([entry]))
    with Served("--config", file, "--data", tmp_path / "data") as server:
        monkeypatch.setenv("NEARDICT_TARGET", server.address)
        ours = MoobiusStorage("1", channel, [entry]).d
        assert ours == values
        ours["alice"]["hp"] = 6
        ours.save("alice")
        ours["erin"][0].hp = 1
        ours.save("erin")
        ours["frank"] = Player("frank", 2)
        del ours["carol@x"]

    again = sdk.MoobiusStorage("1", channel, [entry]).d
    # The SDK finds a class by its name, which of a test module it cannot.
    monkeypatch.setattr(importlib.import_module("pydoc"), "locate", {f"{__name__}.Player": Player}.get)
    again.load()
    assert again == {
        "alice": {"hp": 6, "tags": ["a", None]},
        "bob.smith": "é😀",
        "dave": Player("dave", 8),
        "erin": [Player("erin", 1)],
        "frank": Player("frank", 2),
    }
