"""What is known of a server before it serves: the backends that were chosen, or why it cannot start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from pydantic import ValidationError

from .backends import base
from .config import BackendConfig, Config
from .config.load import explain


class StartError(Exception):
    """The server cannot start; the message tells the operator what to do."""


@dataclass
class Server:
    """A running server. `address` is HOST:PORT with the real port, `metrics` is a URL, if there are any."""

    address: str
    routes: list[tuple[str, str]] = field(default_factory=list)
    metrics: str | None = None


def chosen(entries: Mapping[str, BackendConfig]) -> list[tuple[str, base.BackendType, Any]]:
    """Returns name, type and checked settings of each backend; raises StartError with every mistake."""
    points = metadata.entry_points(group="neardict.backends")
    found: list[tuple[str, base.BackendType, Any]] = []
    mistakes = []
    for name, entry in entries.items():
        below = f"backends.{name}"
        if entry.implementation not in points.names:
            known = ", ".join(sorted(points.names))
            mistakes.append(f"  {below}.implementation: {entry.implementation!r} is none of {known}")
            continue
        try:
            kind: base.BackendType = points[entry.implementation].load()
            found.append((name, kind, kind.Settings.model_validate(entry.settings)))
        except ValidationError as error:
            mistakes.append(explain(error, f"{below}.settings"))
        except (ImportError, AttributeError) as error:
            mistakes.append(f"  {below}.implementation: {entry.implementation} cannot be loaded: {error}")
    if mistakes:
        raise StartError("the configuration has mistakes:\n" + "\n".join(mistakes))
    return found


def routes_of(config: Config) -> list[tuple[str, str]]:
    """Returns pattern and backend of each route in their order, the default as the last."""
    routes = [(route.domain, route.backend) for route in config.routes]
    return routes + ([("*", config.default)] if config.default is not None else [])


def cannot_listen(listen: str) -> StartError:
    """Returns the error for an address that nobody can be reached at."""
    return StartError(
        f"cannot listen on {listen}: the port is taken by another program, or the address "
        "is not this machine's; choose another with --listen HOST:PORT"
    )
