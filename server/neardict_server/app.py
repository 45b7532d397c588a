"""The life of a server: open the backends, serve, drain, close."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from neardict.v1 import storage_pb2, storage_pb2_grpc

from .backends import base
from .backends.request_ids import RequestIds
from .changes.hub import Hub
from .changes.leases import LeasedBackend, Leases, Term
from .changes.stream import Streams
from .config import BackendConfig, Config
from .config.load import explain
from .edge import Edge
from .limits import check_domain, max_receive_bytes
from .router import Router
from .service import StorageService, server_info

logger = logging.getLogger(__name__)

SERVICE = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
# When all calls have ended, connections get so long to see what was sent. Those who watch the health
# never leave by themselves.
FAREWELL_SECONDS = 0.25


class StartError(Exception):
    """The server cannot start; the message tells the operator what to do."""


@dataclass
class Server:
    """A running server. `address` is HOST:PORT with the real port."""

    address: str
    routes: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def serving(
    config: Config, *, clock: base.Clock = base.wall_clock, notice: float = 0.0
) -> AsyncIterator[Server]:
    """Serves while the context lasts; on leaving drains calls under way, then closes the backends.

    `notice` is for how many seconds callers are told that it drains (see `Edge.drain`).
    Raises StartError if the address is taken, the data is another server's or a setting is wrong.
    """
    async with AsyncExitStack() as stack:
        term = Term(config.lease_seconds)
        hubs: dict[str, Hub] = {}
        backends: dict[str, tuple[str, base.Backend]] = {}
        for name, kind, settings in _chosen(config.backends):
            hub = hubs[name] = Hub()
            surroundings = base.Surroundings(config.data_dir, clock, hub.publish, hub.lost, hub.watched)
            backend = await _open(name, kind, settings, surroundings, hub, term)
            stack.push_async_callback(backend.close)
            backends[name] = (config.backends[name].implementation, backend)
        patterns = [(route.domain, route.backend) for route in config.routes]
        routes = patterns + ([("*", config.default)] if config.default is not None else [])
        router = Router({name: backend for name, (_, backend) in backends.items()}, patterns, config.default)
        hub_router = Router(hubs, patterns, config.default)

        def hub_of(domain: str) -> Hub:
            check_domain(domain)
            return hub_router.backend(domain)

        streams = Streams(hub_of, config.heartbeat_seconds, term)
        edge = Edge("/neardict.v1.")
        server = grpc.aio.server(
            interceptors=[edge],
            options=[
                # Otherwise a second server on the port starts without an error and takes half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_receive_bytes(config.limits)),
                ("grpc.max_send_message_length", -1),
                # Lets clients keep an idle connection alive with a ping every 10 seconds.
                ("grpc.http2.min_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        storage_pb2_grpc.add_StorageServiceServicer_to_server(
            StorageService(
                router,
                streams,
                config.limits,
                server_info(
                    metadata.version("neardict"), config.limits, backends, routes, config.heartbeat_seconds
                ),
            ),
            server,
        )
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        for name in ("", SERVICE):
            await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        host = config.listen.rpartition(":")[0]
        try:
            port = server.add_insecure_port(config.listen)
        except RuntimeError:
            raise StartError(
                f"cannot listen on {config.listen}: the port is taken by another program, or the address "
                "is not this machine's; choose another with --listen HOST:PORT"
            ) from None
        await server.start()
        try:
            yield Server(f"{host}:{port}", [(domain, name) for domain, name in routes])
        finally:
            await health_servicer.enter_graceful_shutdown()
            # They would last as long as their clients.
            streams.close()
            await edge.drain(config.shutdown_grace_seconds, notice=notice)
            await server.stop(min(FAREWELL_SECONDS, config.shutdown_grace_seconds))


def _chosen(entries: Mapping[str, BackendConfig]) -> list[tuple[str, base.BackendType, Any]]:
    """Returns name, type and checked settings of each backend; raises StartError with every mistake."""
    points = metadata.entry_points(group="neardict.backends")
    chosen: list[tuple[str, base.BackendType, Any]] = []
    mistakes = []
    for name, entry in entries.items():
        below = f"backends.{name}"
        if entry.implementation not in points.names:
            known = ", ".join(sorted(points.names))
            mistakes.append(f"  {below}.implementation: {entry.implementation!r} is none of {known}")
            continue
        try:
            kind: base.BackendType = points[entry.implementation].load()
            chosen.append((name, kind, kind.Settings.model_validate(entry.settings)))
        except ValidationError as error:
            mistakes.append(explain(error, f"{below}.settings"))
        except (ImportError, AttributeError) as error:
            mistakes.append(f"  {below}.implementation: {entry.implementation} cannot be loaded: {error}")
    if mistakes:
        raise StartError("the configuration has mistakes:\n" + "\n".join(mistakes))
    return chosen


async def _open(
    name: str,
    kind: base.BackendType,
    settings: Any,
    surroundings: base.Surroundings,
    hub: Hub,
    term: Term,
) -> base.Backend:
    try:
        backend = await kind.open(settings, surroundings)
        if base.Capability.WATCH in backend.capabilities:
            if not isinstance(backend, base.Feed):
                raise ValueError(f"{kind!r} promises WATCH, and lacks position or certain")
            hub.attach(backend)
            if base.Capability.LEASES in backend.capabilities:
                kept = surroundings.data_dir / "leases" / f"{quote(name, safe='')}.seconds"
                hub.leases = Leases(term, kept, hub.slow)
                backend = LeasedBackend(backend, hub.leases)
    except (OSError, ValueError) as error:
        raise StartError(f"backends.{name}: {error}") from error
    if base.Capability.DURABLE_REQUEST_ID in backend.capabilities:
        return backend
    return RequestIds(backend, surroundings.clock)
