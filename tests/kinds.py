"""The backends, as tests of the server configure them."""

from collections.abc import Iterable
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
    return _write(folder, _backend(kind, redis))


def write_routes(folder: Path, kinds: Iterable[str], redis: RedisServer, *, default: str = "") -> Path:
    """Writes a configuration that serves the domains `KIND.*` from a backend of that kind."""
    lines = [f'default = "{default}"'] if default else []
    for kind in kinds:
        lines += _backend(kind, redis)
        lines += ["[[routes]]", f'domain = "{kind}.*"', f'backend = "{kind}"']
    return _write(folder, lines)


def _backend(kind: str, redis: RedisServer) -> list[str]:
    return [
        f"[backends.{kind}]",
        f'implementation = "{kind}"',
        *(f"settings.{name} = {value}" for name, value in settings(kind, redis).items()),
    ]


def _write(folder: Path, lines: list[str]) -> Path:
    path = folder / "neardict.toml"
    path.write_text("\n".join(lines))
    return path
