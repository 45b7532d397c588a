"""The shape of the configuration. `deploy/neardict.sample.toml` shows every setting."""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..limits import Limits


class ConfigError(ValueError):
    """The configuration has mistakes; the message names the key path of each."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BackendConfig(_Strict):
    """`settings` is checked by the settings class of the implementation when the backend opens."""

    implementation: str
    settings: dict[str, Any] = Field(default_factory=dict)


class RouteConfig(_Strict):
    """Domains that match the pattern `domain` are served by the backend named `backend`."""

    domain: str = Field(min_length=1)
    backend: str


class Config(_Strict):
    """All settings, with their defaults: every domain in SQLite below `neardict-data`, on loopback."""

    listen: str = "127.0.0.1:50051"
    # Where the metrics are read; without it nothing is counted.
    metrics_listen: str | None = None
    data_dir: Path = Path("neardict-data")
    default: str | None = None
    # How many processes serve; more than one only if every backend is one that several may share.
    workers: int = Field(default=1, ge=1, le=256)
    shutdown_grace_seconds: float = Field(default=10.0, ge=0, le=3600)
    # How often a Watch stream gets a heartbeat that nobody asked for. What a client trusts does not depend on
    # it, but on the answers to its own pings.
    heartbeat_seconds: float = Field(default=1.0, ge=0.05, le=60)
    # For how long a client may serve a domain from memory on a lease, and so for how long a write waits at
    # most for one that does not answer. Our client uses no more than 3 seconds of it.
    lease_seconds: float = Field(default=3.0, ge=1, le=60)
    limits: Limits = Limits()
    backends: dict[str, BackendConfig] = Field(
        default_factory=lambda: {"sqlite": BackendConfig(implementation="sqlite")}, min_length=1
    )
    routes: tuple[RouteConfig, ...] = ()

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _is_host_and_port(cls, listen: str | None) -> str | None:
        if listen is None:
            return None
        found = re.fullmatch(r"(\[[^\s/\[\]]+\]|[^\s:/\[\]]+):([0-9]{1,5})", listen)
        # gRPC itself would take 99999 for some other port.
        if found is None or int(found[2]) > 65535:
            raise ValueError(
                "must be HOST:PORT with a port from 0 to 65535, as in 127.0.0.1:50051 or [::1]:50051"
            )
        return listen

    @model_validator(mode="before")
    @classmethod
    def _only_backend_is_default(cls, data: dict[str, Any]) -> dict[str, Any]:
        """With a single backend and no routes there is nothing to choose."""
        backends = data.get("backends", {"sqlite": None})
        undecided = data.get("default") is None and not data.get("routes")
        if undecided and isinstance(backends, dict) and len(backends) == 1:
            return {**data, "default": next(iter(backends))}
        return data

    @model_validator(mode="after")
    def _names_exist(self) -> "Config":
        named = [("default", self.default)] if self.default is not None else []
        named += [(f"routes.{number}.backend", route.backend) for number, route in enumerate(self.routes)]
        known = ", ".join(self.backends)
        if missing := [(path, name) for path, name in named if name not in self.backends]:
            raise ValueError(
                "\n  ".join(
                    f"{path}: no backend is named {name!r}; there are {known}" for path, name in missing
                )
            )
        if self.default is None and not self.routes:
            raise ValueError("default: name the backend that serves every domain, or add routes")
        return self
