"""Reads the db_config of a Moobius service as a configuration of the server."""

import glob
import json
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

from .model import ConfigError

logger = logging.getLogger(__name__)

# The spellings that the SDK accepts, after lower() and strip(), and our own. `grpc` is for clients that
# leave the engine to the service: here, its embedded default.
IMPLEMENTATIONS = {
    **dict.fromkeys(["json", "jsondb", "jsondatabase"], "json"),
    **dict.fromkeys(["redis", "redi", "redisdb", "ready", "redisdatabase", "the linux one"], "redis"),
    **dict.fromkeys(["null", "none", "false", "nulldb", "nulldatabase"], "null"),
    **{name: name for name in ("sqlite", "memory")},
    "grpc": "sqlite",
}

FIELDS = ("implementation", "name", "load", "clear", "settings")


def from_db_config(db_config: Any) -> dict[str, Any]:
    """Returns the settings of a server that serves each entry's containers from its engine.

    `db_config` is a list of `{"implementation", "name", "load", "clear", "settings"}`, or one such
    entry. A domain is routed by its last segment to the entry of that name; `load`, `clear` and the
    setting `target` are the client's affair. Entries with the same engine and settings share a backend,
    since a folder or file has one owner. Settings that the engine has not are left out, with a warning in
    the log: the SDK ignored them. Raises ConfigError with the path of the first mistake.
    """
    entries = [db_config] if isinstance(db_config, dict) else db_config
    if not isinstance(entries, list) or not entries:
        raise ConfigError("db_config: must be a list of entries, or one entry, and not empty")
    backends: dict[str, Any] = {}
    shared: dict[str, str] = {}
    routes: dict[str, list[dict[str, str]]] = {}
    for number, entry in enumerate(entries):
        path = f"db_config.{number}"
        _check_fields(entry, path)
        name = entry["name"]
        if name in routes:
            raise ConfigError(f"{path}.name: {name!r} is the name of an earlier entry")
        implementation = _implementation(entry["implementation"], path)
        settings = _settings(implementation, entry.get("settings") or {}, path)
        backend = shared.setdefault(_identity(implementation, settings), path)
        backends[backend] = {"implementation": implementation, "settings": settings}
        literal = glob.escape(name)
        routes[name] = [{"domain": pattern, "backend": backend} for pattern in (literal, f"*.{literal}")]
    return {"backends": backends, "routes": [route for pair in routes.values() for route in pair]}


def _check_fields(entry: Any, path: str) -> None:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: must be an object with implementation, name and settings")
    for field in entry:
        if field not in FIELDS:
            raise ConfigError(f"{path}.{field}: is unknown; an entry has {', '.join(FIELDS)}")
    if "implementation" not in entry:
        raise ConfigError(f"{path}.implementation: is missing; to store nothing, say null")
    name = entry.get("name")
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigError(f"{path}.name: must be the container's name, a text without dots")
    for field in ("load", "clear"):
        if not isinstance(entry.get(field, False), bool):
            raise ConfigError(f"{path}.{field}: must be true or false")
    if not isinstance(entry.get("settings"), dict | None):
        raise ConfigError(f"{path}.settings: must be an object")


def _implementation(given: Any, path: str) -> str:
    if given is None or given is False:
        return "null"
    spelling = given.lower().strip() if isinstance(given, str) else ""
    if spelling not in IMPLEMENTATIONS:
        known = ", ".join(sorted(IMPLEMENTATIONS))
        raise ConfigError(f"{path}.implementation: {given!r} is none of {known}")
    return IMPLEMENTATIONS[spelling]


def _settings(implementation: str, given: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns those that the engine has; null stands for its default."""
    if implementation == "null":
        return {}
    kind = metadata.entry_points(group="neardict.backends")[implementation].load()
    settings = {}
    for name, value in given.items():
        if name in kind.Settings.model_fields:
            if value is not None:
                settings[name] = value
        elif name != "target":
            logger.warning("%s.settings.%s: is left out, %s has no such setting", path, name, implementation)
    if implementation == "json":
        # Where the SDK keeps its files: without root_dir, below the folder where it runs.
        settings.setdefault("root_dir", ".")
    return settings


def _identity(implementation: str, settings: dict[str, Any]) -> str:
    """Returns a text that is the same for settings that mean the same files or service."""
    paths = {
        name: str(Path(settings[name]).resolve())
        for name in ("root_dir", "path")
        if isinstance(settings.get(name), str)
    }
    return json.dumps([implementation, settings | paths], sort_keys=True)
