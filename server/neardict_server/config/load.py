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

    Raises ConfigError, whose message has a line for each mistake, with its key path.
    """
    environ = {} if environ is None else environ
    if path is None and (named := environ.get("NEARDICT_CONFIG")):
        path = Path(named)
    settings = {} if path is None else _read(path)
    source = "the default configuration" if path is None else str(path)
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            _set(settings, name, text)
    settings.update({name: value for name, value in (overrides or {}).items() if value is not None})
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{source} (with the environment) has mistakes:\n{explain(error)}") from None


def explain(error: ValidationError, below: str = "") -> str:
    """Returns a line for each mistake, with its key path and without the value, which may be a secret."""
    lines = []
    for mistake in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join([below, *map(str, mistake["loc"])] if below else map(str, mistake["loc"]))
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            message = "unknown setting; check its spelling, or remove it"
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


def _set(settings: dict[str, Any], name: str, text: str) -> None:
    *parents, last = path = [part.lower() for part in name.removeprefix(PREFIX).split("__")]
    if not all(path):
        raise ConfigError(f"the variable {name} has an empty part in its key path: correct or unset it")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"the variable {name} names a part of `{parent}`, which is not a table")
    settings[last] = text
