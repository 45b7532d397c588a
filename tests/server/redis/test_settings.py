"""Settings: mistakes stop the start, and secrets stay secret."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from pydantic import ValidationError

from neardict_server.backends import base
from neardict_server.backends.redis import RedisBackend
from neardict_server.errors import (
    BackendUnavailableError,
    StorageError,
)
from redis_backend import DEADLINE_SECONDS, DOMAIN, opened
from redis_server import RedisServer

SECRET = "correct horse"


@pytest.mark.parametrize("password", [None, "wrong " + SECRET])
async def test_wrong_credentials_are_told_without_them(
    password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer("--requirepass", SECRET) as server:
        with pytest.raises(ValueError, match="password") as caught:
            await try_to_open(server, password=password)
        async with opened(server, password=SECRET) as backend:
            await backend.set_value(DOMAIN, "key", "1")
            async with redis.asyncio.Redis(port=server.port, password=SECRET) as admin:
                await admin.config_set("requirepass", "changed")
                await admin.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(BackendUnavailableError, match="password") as later:
                await until_refused(backend)
        for text in (str(caught.value), str(later.value), caplog.text, repr(backend)):
            assert SECRET not in text


async def test_a_user_with_the_documented_permissions_is_enough() -> None:
    rules = documented_rules()
    with RedisServer() as server:
        admin: Any
        async with redis.asyncio.Redis(port=server.port) as admin:
            await admin.execute_command("ACL", "SETUSER", "neardict", "on", f">{SECRET}", *rules)
            await admin.execute_command("ACL", "SETUSER", "nobody", "on", f">{SECRET}", "~*", "+ping")
        async with opened(server, username="neardict", password=SECRET) as backend:
            await backend.set_value(DOMAIN, "key", "1", ttl=10**9, request_id="r", condition=0)
            await backend.set_value(DOMAIN, "key", "1")
            await backend.set_value(DOMAIN, "brief", "1", ttl=1)
            await backend.set_value(DOMAIN, "key", "1", ttl=10**9)
            await backend.delete_key(DOMAIN, "brief")
            assert [page.keys async for page in backend.all_keys(DOMAIN)] == [["key"]]
            assert [len(page.entries) async for page in backend.all_keys(DOMAIN, entries=True)] == [1]
            begun = await backend.position(DOMAIN, 0)
            large = await backend.set_value(DOMAIN, "large", b"x" * base.TOLD_BYTES, ttl=10**9)
            missed = (await backend.position(DOMAIN, begun.revision)).missed
            assert missed == [base.Change("large", large.revision, "", large.expires, told=False)]
        with pytest.raises(ValueError, match="permission"):
            await try_to_open(server, username="nobody", password=SECRET)


@pytest.mark.parametrize("command", ["+hgetall", "+hset", "+zadd"])
async def test_a_user_who_may_not_what_scripts_do_is_told_so_by_operations(command: str) -> None:
    rules = [rule for rule in documented_rules() if rule != command]
    with RedisServer() as server:
        admin: Any
        async with redis.asyncio.Redis(port=server.port) as admin:
            await admin.execute_command("ACL", "SETUSER", "neardict", "on", f">{SECRET}", *rules)
        async with opened(server, username="neardict", password=SECRET) as backend:
            with pytest.raises(BackendUnavailableError, match=r"lacks a permission: docs/redis\.md"):
                await backend.set_value(DOMAIN, "key", "1", request_id="r")


async def test_a_cluster_is_not_taken_for_a_redis_that_stands_alone() -> None:
    with RedisServer("--cluster-enabled", "yes") as server, pytest.raises(ValueError, match="Cluster"):
        await try_to_open(server)


async def test_a_database_that_is_not_there_stops_the_start(server: RedisServer) -> None:
    with pytest.raises(ValueError, match="db"):
        await try_to_open(server, db=99)


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 0},
        {"db": -1},
        {"host": ""},
        {"key_prefix": "a{b}"},
        {"connect_timeout_seconds": 0},
        {"root_dir": "json_db"},
        {"ssl": True, "ssl_ca_file": "/nowhere/ca.pem"},
        {"ssl_ca_file": __file__},
        {"url": f"redis://:{SECRET}@localhost", "ssl_ca_file": __file__},
        {"url": f"http://:{SECRET}@localhost"},
        {"url": f"redis://:{SECRET}@localhost:port/0"},
        {"url": f"redis://:{SECRET}@localhost/name"},
        {"url": f"redis://:{SECRET}@localhost?socket_timeout=99"},
        {"url": f"redis://:{SECRET}@localhost", "host": "elsewhere"},
        {"url": "redis://localhost", "password": SECRET},
    ],
)
def test_mistakes_are_found_and_secrets_are_not_shown(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisBackend.Settings.model_validate(settings)
    assert SECRET not in str(caught.value)


def test_secrets_are_not_shown_by_the_settings() -> None:
    for settings in ({"password": SECRET}, {"url": f"rediss://user:{SECRET}@localhost/1"}):
        assert SECRET not in repr(RedisBackend.Settings.model_validate(settings))


def test_a_moobius_entry_without_a_db_means_the_first() -> None:
    model = RedisBackend.Settings.model_validate({"host": "h", "port": 1, "db": None, "password": None})
    assert (model.db, model.password) == (0, None)


async def try_to_open(server: RedisServer, **settings: Any) -> None:
    async with opened(server, **settings):
        pass


async def until_refused(backend: RedisBackend) -> None:
    """Writes until it fails for another reason than that a connection was cut."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await backend.set_value(DOMAIN, "key", "2")
            except StorageError as error:
                if "went away" not in str(error):
                    raise
            await asyncio.sleep(0.01)


def documented_rules() -> list[str]:
    """Returns the rules of the user that docs/redis.md proposes."""
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ACL SETUSER neardict on >PASSWORD ")]
    return line.removeprefix("ACL SETUSER neardict on >PASSWORD ").split()
