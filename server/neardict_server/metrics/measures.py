"""What a process that serves counts.

No label is a domain or a key, of which there may be any number, and which may be private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from neardict.v1 import storage_pb2 as pb

from ..changes.hub import Hub
from ..room import unnoticed
from .calls import Calls
from .codes import code_name
from .metered_backend import MeteredBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backends import base

# From a cached read of SQLite to a slow write over a network.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CALL = ("grpc_type", "grpc_service", "grpc_method")
# What an operation of Execute may end with that no backend is asked for, or that cannot be sent.
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
)


class Unmeasured:
    """Counts nothing, at no cost."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def around(self, method: str, handler: Any) -> Any:
        """Returns the handler."""
        return handler

    def backend(self, name: str, inner: base.Backend) -> base.Backend:
        """Returns the backend."""
        return inner

    def hub(self, name: str) -> Hub:
        """Returns a hub for the backend."""
        return Hub()

    def refused(self, code: int) -> None:
        """Takes no notice."""

    def in_flight(self, direction: str) -> Callable[[int], None]:
        """Returns what takes no notice of bytes in flight."""
        return unnoticed

    def lapses(self, name: str) -> Callable[[], None]:
        """Returns what takes no notice of a lease that lapsed."""
        return lambda: None


class Measures(Unmeasured):
    """The families of figures of one server, in `registry`.

    `grpc_server_*` are named and labelled as in go-grpc-middleware, which dashboards know.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        registry = self.registry
        ProcessCollector(registry=registry)
        # Info does not go with several processes.
        build = Gauge(
            "neardict_build_info",
            "1, with the version.",
            ["version"],
            registry=registry,
            multiprocess_mode="max",
        )
        build.labels(version).set(1)
        self._calls = Calls(
            Counter("grpc_server_started", "Calls that came.", _CALL, registry=registry),
            Counter(
                "grpc_server_handled", "Calls that ended, however.", (*_CALL, "grpc_code"), registry=registry
            ),
            Histogram(
                "grpc_server_handling_seconds",
                "How long calls took, but for Execute and Watch, which last as long as their clients.",
                _CALL,
                registry=registry,
                buckets=_SECONDS,
            ),
            Gauge(
                "neardict_calls_under_way",
                "Calls that have not ended.",
                ["grpc_method"],
                registry=registry,
                multiprocess_mode="livesum",
            ),
        )
        self._operations = Counter(
            "neardict_operations",
            "Operations that backends carried out, by calls of their own or in Execute, and their statuses.",
            ["backend", "operation", "code"],
            registry=registry,
        )
        self._refused = Counter(
            "neardict_operations_refused",
            "Operations of Execute that failed outside of a backend: wrong, late, cancelled, and those whose "
            "value is too large to be sent.",
            ["code"],
            registry=registry,
        )
        # From the start, since the first of what is not there before cannot be told from none.
        for code in _REFUSALS:
            self._refused.labels(code_name(code))
        self._seconds = Histogram(
            "neardict_backend_seconds",
            'How long backends took for an operation, or for a batch of them (operation="Execute").',
            ["backend", "operation"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._subscriptions = Gauge(
            "neardict_subscriptions",
            "Domains that clients watch, each client's counted.",
            ["backend"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._lapses = Counter(
            "neardict_lease_lapses",
            "Leases for whose end a write had to wait, as their holder did not answer, or had gone.",
            ["backend"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "neardict_bytes_in_flight",
            "Bytes of values on their way, which limits.max_bytes_in_flight bounds.",
            ["direction"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._resets = Counter(
            "neardict_subscription_resets",
            "Subscriptions that the service ended, so that clients read the domain anew.",
            ["backend", "reason"],
            registry=registry,
        )

    def around(self, method: str, handler: Any) -> Any:
        """Returns the handler with its calls counted and timed. `method` is /SERVICE/METHOD."""
        return self._calls.around(method, handler)

    def refused(self, code: int) -> None:
        """Takes notice of an operation of Execute that failed with this status outside of a backend."""
        self._refused.labels(code_name(code)).inc()

    def in_flight(self, direction: str) -> Callable[[int], None]:
        """Returns what is told by how many bytes more are in flight: "in" or "out"."""
        return self._in_flight.labels(direction).inc

    def lapses(self, name: str) -> Callable[[], None]:
        """Returns what is called for each holder of a lease who made a write wait for its end."""
        return self._lapses.labels(name).inc

    def backend(self, name: str, inner: base.Backend) -> base.Backend:
        """Returns the backend with its operations counted and timed."""
        for operation in ("GetValue", "SetValue", "DeleteKey", "AllKeys"):
            self._operations.labels(name, operation, code_name(grpc.StatusCode.OK))
        return MeteredBackend(name, inner, self._operations, self._seconds)

    def hub(self, name: str) -> Hub:
        """Returns a hub for the backend, of which the subscriptions are counted."""
        resets = {
            reason: self._resets.labels(name, reason.removeprefix("REASON_"))
            for number, reason in enumerate(pb.Reset.Reason.keys())
            if number
        }
        return Hub(self._subscriptions.labels(name).inc, lambda reason: resets[reason].inc())
