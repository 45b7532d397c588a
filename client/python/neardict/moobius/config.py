"""Reads the db_config of a Moobius service."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidArgumentError

logger = logging.getLogger(__name__)

# The spellings that the SDK accepts, after lower() and strip(), and our own.
IMPLEMENTATIONS = {
    **dict.fromkeys(["json", "jsondb", "jsondatabase"], "json"),
    **dict.fromkeys(["redis", "redi", "redisdb", "ready", "redisdatabase", "the linux one"], "redis"),
    **dict.fromkeys(["null", "none", "false", "nulldb", "nulldatabase"], "null"),
    **{name: name for name in ("sqlite", "memory", "grpc")},
}

# The settings that a service takes of an entry, so that the client can warn of others. For null, any.
SETTINGS = {
    "json": {"root_dir"},
    "redis": {
        *("host", "port", "db", "username", "password", "ssl", "url", "ssl_ca_file"),
        *("key_prefix", "connect_timeout_seconds", "command_timeout_seconds", "max_connections"),
        *("cluster", "sentinels", "sentinel_service", "sentinel_username", "sentinel_password"),
    },
    "sqlite": {"path"},
    "memory": set[str](),
    "grpc": set[str](),
}

DbConfig = Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Container:
    """A checked entry of a db_config. `target` is where its service is; None for the default."""

    name: str
    implementation: str
    load: bool
    clear: bool
    target: str | None


def entries(db_config: DbConfig, taken: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Returns the entries, as arguments of `container`, after checking all of them.

    `db_config` is a list of entries, one entry, or the path of a .json file with either; if it is empty there
    are none. `taken` tells which names cannot be given to a container. Raises InvalidArgumentError, which
    names the path of the mistake, before anything is done about any entry; OSError for the file.
    """
    where = "db_config"
    if isinstance(db_config, (str, os.PathLike)) and db_config:
        where = f"{os.fspath(db_config)}: db_config"
        db_config = _read(Path(db_config))
    if not db_config:
        return []
    if isinstance(db_config, Mapping):
        db_config = [db_config]
    if isinstance(db_config, (str, bytes)) or not isinstance(db_config, Iterable):
        raise InvalidArgumentError(f"{where}: must be a list of entries, or one entry")
    checked: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(db_config):
        path = f"{where}.{number}"
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(f"{path}: must be a dict with implementation, name and settings")
        arguments = {"settings": {}, **entry}
        for field in ("implementation", "name"):
            if field not in arguments:
                raise InvalidArgumentError(f"{path}.{field}: is missing")
        for field in arguments:
            if field not in ("implementation", "settings", "name", "load", "clear"):
                raise InvalidArgumentError(
                    f"{path}.{field}: is unknown; an entry has implementation, name, load, clear and settings"
                )
        name = container(**arguments, path=path).name
        if name in checked or taken(name):
            raise InvalidArgumentError(f"{path}.name: {name!r} is taken: choose another name")
        checked[name] = arguments
    return list(checked.values())


def container(
    implementation: object,
    settings: object,
    name: object,
    load: object = True,
    clear: object = False,
    *,
    path: str,
) -> Container:
    """Returns the checked entry. Raises InvalidArgumentError, which names the mistake below `path`."""
    if not isinstance(name, str) or not name or "." in name:
        raise InvalidArgumentError(f"{path}.name: must be a str without dots, and not empty")
    for field, flag in (("load", load), ("clear", clear)):
        if not isinstance(flag, bool):
            # "false" would be true, and clear everything.
            raise InvalidArgumentError(f"{path}.{field}: must be true or false")
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise InvalidArgumentError(f"{path}.settings: must be a dict")
    target = settings.get("target")
    if target is not None and not isinstance(target, str):
        raise InvalidArgumentError(f"{path}.settings.target: must be HOST:PORT")
    return Container(name, _implementation(implementation, path), load is True, clear is True, target)


def warn_of_unknown(settings: Mapping[str, Any] | None, implementation: str, path: str) -> None:
    """Says in the log which settings have no effect, by their names alone: a value may be a secret."""
    known = SETTINGS.get(implementation)
    for name in settings or {}:
        if known is not None and name not in known and name != "target":
            logger.warning(
                "%s.settings.%s: has no effect, %s has no such setting", path, name, implementation
            )


def _implementation(given: object, path: str) -> str:
    if given is None or given is False:
        return "null"
    spelling = given.lower().strip() if isinstance(given, str) else ""
    if spelling not in IMPLEMENTATIONS:
        known = ", ".join(sorted(set(IMPLEMENTATIONS.values())))
        raise InvalidArgumentError(f"{path}.implementation: {given!r} is none of {known}")
    return IMPLEMENTATIONS[spelling]


def _read(path: Path) -> Any:
    if path.suffix.lower() != ".json":
        raise InvalidArgumentError(
            f"db_config: {str(path)!r} must be a list of entries, one entry, or the path of a .json file"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error.msg} at line {error.lineno}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path} is not UTF-8 text") from None
