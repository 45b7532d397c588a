"""What a service tells of itself."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf import duration_pb2


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service refuses to exceed."""

    max_domain_bytes: int
    max_key_bytes: int
    max_value_bytes: int
    # Larger values travel in chunks, by themselves.
    max_message_value_bytes: int
    max_json_depth: int
    request_id_window: datetime.timedelta


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A backend: its name in the service's configuration, what it is, and what it can do, as "ttl"."""

    name: str
    implementation: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Sends the domains that fit the pattern `domain` to the backend of this name."""

    domain: str
    backend: str


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer of `Store.server_info`. Of the routes, the first that fits a domain wins."""

    version: str
    limits: Limits
    backends: tuple[BackendInfo, ...]
    routes: tuple[Route, ...]
    heartbeat_period: datetime.timedelta
    compressions: tuple[str, ...]


def of(message: pb.GetServerInfoResponse) -> ServerInfo:
    """Returns what the message says; for this package."""
    limits = message.limits
    return ServerInfo(
        version=message.version,
        limits=Limits(
            max_domain_bytes=limits.max_domain_bytes,
            max_key_bytes=limits.max_key_bytes,
            max_value_bytes=limits.max_value_bytes,
            max_message_value_bytes=limits.max_message_value_bytes,
            max_json_depth=limits.max_json_depth,
            request_id_window=_time(limits.request_id_window),
        ),
        backends=tuple(
            BackendInfo(
                backend.name,
                backend.implementation,
                tuple(_name(pb.Capability, "CAPABILITY_", number) for number in backend.capabilities),
            )
            for backend in message.backends
        ),
        routes=tuple(Route(route.domain, route.backend) for route in message.routes),
        heartbeat_period=_time(message.heartbeat_period),
        compressions=tuple(_name(pb.Compression, "COMPRESSION_", number) for number in message.compressions),
    )


def _name(enum: type[pb.Capability] | type[pb.Compression], prefix: str, number: int) -> str:
    # A newer service may know more of them.
    known = {number: name.removeprefix(prefix) for name, number in enum.items()}
    return known.get(number, str(number)).lower()


def _time(duration: duration_pb2.Duration) -> datetime.timedelta:
    return datetime.timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
