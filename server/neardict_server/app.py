"""The life of a server: open the backends, serve, drain, close."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from neardict.v1 import storage_pb2, storage_pb2_grpc
from pydantic import ValidationError

from .backends import base
from .backends.request_ids import RequestIds
from .changes.hub import Hub
from .changes.stream import Streams
from .config import BackendConfig, Config
from .config.load import explain
from .edge import Edge
from .limits import check_domain
from .router import Router
from .service import StorageService, server_info

logger = logging.getLogger(__name__)

SERVICE = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
# Room for domain, key and framing around the largest value; beyond it gRPC itself refuses the message.
MESSAGE_OVERHEAD = 64 * 1024


class StartError(Exception):
    """The server cannot start; the message tells the operator what to do."""


@dataclass
class Server:
    """A running server. `address` is HOST:PORT with the real port."""

    address: str
    routes: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def serving(config: Config, *, clock: base.Clock = base.wall_clock) -> AsyncIterator[Server]:
    """Serves while the context lasts; on leaving drains calls under way, then closes the backends.

    Raises StartError if the address is taken, the data is another server's or a setting is wrong.
    """
    async with AsyncExitStack() as stack:
        hubs: dict[str, Hub] = {}
        backends: dict[str, tuple[str, base.Backend]] = {}
        for name, entry in config.backends.items():
            hub = hubs[name] = Hub()
            backend = await _open(name, entry, base.Surroundings(config.data_dir, clock, hub.publish), hub)
            stack.push_async_callback(backend.close)
            backends[name] = (entry.implementation, backend)
        patterns = [(route.domain, route.backend) for route in config.routes]
        routes = patterns + ([("*", config.default)] if config.default is not None else [])
        router = Router({name: backend for name, (_, backend) in backends.items()}, patterns, config.default)
        hub_router = Router(hubs, patterns, config.default)

        def hub_of(domain: str) -> Hub:
            check_domain(domain)
            return hub_router.backend(domain)

        streams = Streams(hub_of, config.heartbeat_seconds)
        server = grpc.aio.server(
            interceptors=[Edge("/neardict.v1.")],
            options=[
                # Otherwise a second server on the port starts without an error and takes half of the calls.
                ("grpc.so_reuseport", 0),
                # Twice, so that a value over the limit meets our own error and not gRPC's.
                ("grpc.max_receive_message_length", 2 * config.limits.max_value_bytes + MESSAGE_OVERHEAD),
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
            await server.stop(config.shutdown_grace_seconds)


async def _open(name: str, entry: BackendConfig, surroundings: base.Surroundings, hub: Hub) -> base.Backend:
    below = f"backends.{name}"
    points = metadata.entry_points(group="neardict.backends")
    if entry.implementation not in points.names:
        known = ", ".join(sorted(points.names))
        raise StartError(f"{below}.implementation: {entry.implementation!r} is none of {known}")
    try:
        kind: base.BackendType = points[entry.implementation].load()
        backend = await kind.open(kind.Settings.model_validate(entry.settings), surroundings)
    except ValidationError as error:
        raise StartError(explain(error, f"{below}.settings")) from None
    except (OSError, ValueError, ImportError) as error:
        raise StartError(f"{below}: {error}") from error
    if isinstance(backend, base.Feed):
        hub.attach(backend)
    if base.Capability.DURABLE_REQUEST_ID in backend.capabilities:
        return backend
    return RequestIds(backend, surroundings.clock)
