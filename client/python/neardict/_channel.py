"""How a client reaches the service: its address, and the options of the connection."""

import json
import os
from typing import Any

from .errors import InvalidArgumentError

DEFAULT_TARGET = "localhost:50051"
# Long enough for a service that restarts, short enough for a person who waits.
DEFAULT_TIMEOUT = 10.0  # seconds

# Retries are gRPC's own. They are safe for every call of ours: reads change nothing, and each write
# carries a request_id, which the service applies once.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "neardict.v1.StorageService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2.5,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # gRPC gives up retrying requests above 256 KiB otherwise.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
    # What the service accepted, a client can read.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A peer that vanished without a word is noticed within 15 seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A restarted service is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


def resolve_target(target: str | None) -> str:
    """Returns the target to use: the given one, else NEARDICT_TARGET, else localhost:50051."""
    if target is None:
        target = os.environ.get("NEARDICT_TARGET") or DEFAULT_TARGET
    if not target or "://" in target.replace("dns:///", "").replace("unix://", ""):
        raise InvalidArgumentError(f"target {target!r} must be HOST:PORT, or a gRPC name such as unix:/path")
    return target
