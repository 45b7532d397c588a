"""The backends, as tests of the server configure them."""

from pathlib import Path
from typing import Any

from neardict_server.backends.json import JsonBackend
from neardict_server.backends.memory import MemoryBackend
from neardict_server.backends.null import NullBackend
from neardict_server.backends.redis import RedisBackend
from neardict_server.backends.sqlite import SqliteBackend
from redis_backend import PATIENT
from redis_server import RedisServer

TYPES: dict[str, Any] = {
    "json": JsonBackend,
    "memory": MemoryBackend,
    "null": NullBackend,
    "redis": RedisBackend,
    "sqlite": SqliteBackend,
}
KEEPING = ["json", "memory", "redis", "sqlite"]
DURABLE = ["json", "redis", "sqlite"]


def settings(kind: str, redis: RedisServer) -> dict[str, Any]:
    return {"port": redis.port, **PATIENT} if kind == "redis" else {}


def write_config(folder: Path, kind: str, redis: RedisServer) -> Path:
    """Writes a configuration that serves every domain from one backend of the kind."""
    lines = [f"[backends.{kind}]", f'implementation = "{kind}"']
    lines += [f"settings.{name} = {value}" for name, value in settings(kind, redis).items()]
    path = folder / "neardict.toml"
    path.write_text("\n".join(lines))
    return path
