"""Reads a configuration: environment over file over default."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import moobius
from .model import Config, ConfigError

PREFIX = "NEARDICT_"
# Variables with the prefix that are not settings of the server: where its file is, and the client's target.
NOT_SETTINGS = {"NEARDICT_CONFIG", "NEARDICT_TARGET"}


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Returns the checked configuration.

    `path` is a TOML file or a Moobius db_config `.json`; without it the variable NEARDICT_CONFIG, then
    the defaults. NEARDICT_LISTEN sets `listen`, NEARDICT_LIMITS__MAX_VALUE_BYTES sets
    `limits.max_value_bytes` and so on: two underscores for a dot. `overrides`, from the command line,
    win over everything.

    Raises ConfigError, whose message has a line for each mistake, with its key path, and the variable or
    option that has set it.
    """
    environ = {} if environ is None else environ
    if path is None and (named := environ.get("NEARDICT_CONFIG")):
        path = Path(named)
    settings = {} if path is None else _read(path)
    source = "the configuration" if path is None else str(path)
    origins = {}
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            origins[_set(settings, name, text)] = name
    for name, value in (overrides or {}).items():
        if value is not None:
            settings[name] = value
            origins[name] = "the command line"
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{source} has mistakes:\n{explain(error, origins=origins)}") from None


def explain(error: ValidationError, below: str = "", *, origins: Mapping[str, str] | None = None) -> str:
    """Returns a line for each mistake, with its key path and without the value, which may be a secret.

    `origins` tells of key paths that are not the file's where they come from.
    """
    lines = []
    for mistake in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join([below, *map(str, mistake["loc"])] if below else map(str, mistake["loc"]))
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            message = "unknown setting; check its spelling, or remove it"
        elif mistake["type"] == "tuple_type":
            message = f"must be a list of tables: begin each with [[{path}]], in two pairs of brackets"
        elif mistake["type"] in ("model_type", "dict_type"):
            message = "must be a table"
        for whole, origin in (origins or {}).items():
            if path == whole or path.startswith(f"{whole}."):
                message += f" (from {origin})"
        lines.append(f"  {path}: {message}" if path else f"  {message}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration {path} is not UTF-8 text") from None
    try:
        if path.suffix.lower() == ".json":
            return moobius.from_db_config(json.loads(text))
        return tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error.msg} at line {error.lineno}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} holds a number of too many digits, or nests too deep") from None


def _set(settings: dict[str, Any], name: str, text: str) -> str:
    """Puts the variable's text into the settings, and returns its key path."""
    *parents, last = path = [part.lower() for part in name.removeprefix(PREFIX).split("__")]
    if not all(path):
        raise ConfigError(f"the variable {name} has an empty part in its key path: correct or unset it")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"the variable {name} names a part of `{parent}`, which is not a table")
    settings[last] = text
    return ".".join(path)
