"""Reads the db_config of a Moobius service as a configuration of the server."""

import glob
from typing import Any

from .model import ConfigError

# The spellings that the SDK accepts, after lower() and strip(), and our own engines.
IMPLEMENTATIONS = {
    **dict.fromkeys(["json", "jsondb", "jsondatabase"], "json"),
    **dict.fromkeys(["redis", "redi", "redisdb", "ready", "redisdatabase", "the linux one"], "redis"),
    **dict.fromkeys(["null", "none", "false", "nulldb", "nulldatabase"], "null"),
    **{name: name for name in ("sqlite", "memory")},
}


def from_db_config(db_config: Any) -> dict[str, Any]:
    """Returns the settings of a server that serves each entry's containers from its engine.

    `db_config` is a list of `{"implementation", "name", "load", "clear", "settings"}`, or one such
    entry. A domain is routed by its last segment to the entry of that name; `load` and `clear` are the
    client's affair. Raises ConfigError with the path of the first mistake.
    """
    entries = [db_config] if isinstance(db_config, dict) else db_config
    if not isinstance(entries, list) or not entries:
        raise ConfigError("db_config: must be a list of entries, or one entry, and not empty")
    backends: dict[str, Any] = {}
    routes = []
    for number, entry in enumerate(entries):
        path = f"db_config.{number}"
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: must be an object with implementation, name and settings")
        name = entry.get("name")
        if not isinstance(name, str) or not name or "." in name:
            raise ConfigError(f"{path}.name: must be the container's name, a text without dots")
        if name in backends:
            raise ConfigError(f"{path}.name: {name!r} is the name of an earlier entry")
        implementation = entry.get("implementation")
        spelling = str(implementation if implementation is not None else "null").lower().strip()
        if spelling not in IMPLEMENTATIONS:
            known = ", ".join(sorted(IMPLEMENTATIONS))
            raise ConfigError(f"{path}.implementation: {implementation!r} is none of {known}")
        settings = entry.get("settings", {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}.settings: must be an object")
        backends[name] = {
            "implementation": IMPLEMENTATIONS[spelling],
            "settings": {} if IMPLEMENTATIONS[spelling] == "null" else dict(settings),
        }
        literal = glob.escape(name)
        routes += [{"domain": literal, "backend": name}, {"domain": f"*.{literal}", "backend": name}]
    return {"backends": backends, "routes": routes}
