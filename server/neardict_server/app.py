"""The life of a server: open the backends, serve, drain, close."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from neardict.v1 import storage_pb2, storage_pb2_grpc

from .backends import base
from .backends.request_ids import RequestIds
from .changes.hub import Hub
from .changes.leased_backend import LeasedBackend
from .changes.leases import Leases, Term
from .changes.stream import Streams
from .config import Config
from .edge import Edge
from .execution import Executions
from .limits import check_domain, max_connections, max_receive_bytes, room
from .metrics import keeping
from .metrics.endpoint import exposing
from .metrics.measures import Measures, Unmeasured
from .router import Router
from .service import StorageService, server_info
from .startup import Server, StartError, cannot_listen, chosen, routes_of

logger = logging.getLogger(__name__)

SERVICE = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
# When all calls have ended, connections get so long to see what was sent. Those who watch the health
# never leave by themselves.
FAREWELL_SECONDS = 0.25
# So many calls may wait until Python takes them: more than all connections have, at some KiB each.
_MOST_PENDING = 1_000_000


@asynccontextmanager
async def serving(
    config: Config,
    *,
    clock: base.Clock = base.wall_clock,
    notice: float = 0.0,
    shared_port: bool = False,
) -> AsyncIterator[Server]:
    """Serves while the context lasts; on leaving drains calls under way, then closes the backends.

    `notice` is for how many seconds callers are told that it drains (see `Edge.drain`). `shared_port` is for
    workers, whose port their supervisor has reserved: others that say the same may serve it too. Their
    metrics are for the supervisor to tell.
    Raises StartError if the address is taken, the data is another server's or a setting is wrong.
    """
    async with AsyncExitStack() as stack:
        term = Term(config.lease_seconds)
        version = metadata.version("neardict")
        if not shared_port:
            keeping.in_memory()
        measures = Unmeasured() if config.metrics_listen is None else Measures(version)
        hubs: dict[str, Hub] = {}
        backends: dict[str, tuple[str, base.Backend]] = {}
        for name, kind, settings in chosen(config.backends):
            hub = hubs[name] = measures.hub(name)
            surroundings = base.Surroundings(config.data_dir, clock, hub.publish, hub.lost, hub.watched, name)

            def leases_of(kept: Path, hub: Hub = hub, name: str = name) -> Leases:
                return Leases(
                    term,
                    kept,
                    hub.slow,
                    most_domains=config.limits.max_connection_leases,
                    lapsed=measures.lapses(name),
                )

            backend = await _open(name, kind, settings, surroundings, hub, leases_of)
            stack.push_async_callback(backend.close)
            backends[name] = (config.backends[name].implementation, measures.backend(name, backend))
        patterns = [(route.domain, route.backend) for route in config.routes]
        routes = routes_of(config)
        router = Router({name: backend for name, (_, backend) in backends.items()}, patterns, config.default)
        hub_router = Router(hubs, patterns, config.default)

        def hub_of(domain: str) -> Hub:
            check_domain(domain)
            return hub_router.backend(domain)

        streams = Streams(hub_of, config.heartbeat_seconds, term)
        arriving = room(config.limits, measures.in_flight("in"))
        leaving = room(config.limits, measures.in_flight("out"))
        executions = Executions(router, config.limits, measures.refused, arriving=arriving, leaving=leaving)
        edge = Edge()
        server = grpc.aio.server(
            options=[
                # Otherwise a second server on the port starts without an error and takes half of the calls.
                ("grpc.so_reuseport", int(shared_port)),
                ("grpc.max_receive_message_length", max_receive_bytes(config.limits)),
                ("grpc.max_send_message_length", -1),
                # docs/grpc.md has all options, and what is decided of each. More calls wait at the client.
                ("grpc.max_concurrent_streams", config.limits.max_connection_calls),
                # gRPC would cancel calls of all connections at random, with no word, above 1,000.
                ("grpc.server.max_pending_requests", _MOST_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
                ("grpc.max_allowed_incoming_connections", max_connections(config.limits)),
                ("grpc.http.overload_protection", 0),
                # Who connects, and then says nothing, is not waited for.
                ("grpc.server_handshake_timeout_ms", 10_000),
                # Lets clients keep an idle connection alive with a ping every 10 seconds.
                ("grpc.http2.min_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        storage_pb2_grpc.add_StorageServiceServicer_to_server(
            StorageService(
                router,
                streams,
                executions,
                config.limits,
                server_info(version, config.limits, backends, routes, config.heartbeat_seconds),
                arriving=arriving,
                leaving=leaving,
            ),
            edge.before(server, measures.around),
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
            raise cannot_listen(config.listen) from None
        exposed = None
        if config.metrics_listen is not None and not shared_port:
            exposed = await stack.enter_async_context(exposing(config.metrics_listen, measures.registry))
        await server.start()
        try:
            yield Server(f"{host}:{port}", routes, exposed)
        finally:
            await health_servicer.enter_graceful_shutdown()
            # They would last as long as their clients.
            streams.close()
            executions.close()
            await edge.drain(config.shutdown_grace_seconds, notice=notice)
            await server.stop(min(FAREWELL_SECONDS, config.shutdown_grace_seconds))


async def _open(
    name: str,
    kind: base.BackendType,
    settings: Any,
    surroundings: base.Surroundings,
    hub: Hub,
    leases_of: Callable[[Path], Leases],
) -> base.Backend:
    try:
        backend = await kind.open(settings, surroundings)
        if base.Capability.WATCH in backend.capabilities:
            if not isinstance(backend, base.Feed):
                raise ValueError(f"{kind!r} promises WATCH, and lacks position or certain")
            hub.attach(backend)
            if base.Capability.LEASES in backend.capabilities:
                kept = surroundings.data_dir / "leases" / f"{quote(name, safe='')}.seconds"
                hub.leases = leases_of(kept)
                backend = LeasedBackend(backend, hub.leases)
    except (OSError, ValueError) as error:
        raise StartError(f"backends.{name}: {error}") from error
    if base.Capability.DURABLE_REQUEST_ID in backend.capabilities:
        return backend
    return RequestIds(backend, surroundings.clock)
