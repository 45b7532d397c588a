"""How a client reaches the service: its address, and the options of the connection."""

import os
import re
from typing import Any

import grpc

from ._replies import MOST_MESSAGE_VALUE_BYTES
from .errors import InvalidArgumentError

DEFAULT_TARGET = "localhost:50051"
# Long enough for a service that restarts, short enough for a person who waits.
DEFAULT_TIMEOUT = 10.0  # seconds

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
# https://github.com/grpc/grpc/blob/master/doc/naming.md
_GRPC_NAMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")

OPTIONS: list[tuple[str, Any]] = [
    # Calls are tried again by `_retries`, until their deadline: gRPC would do it five times at most. It does
    # send again by itself what never left, for which it would keep no more than 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
    # What a service can be configured to send in a message, and as much again: whatever it accepted, a client
    # can read. Without a bound one message could take all memory.
    ("grpc.max_receive_message_length", 2 * MOST_MESSAGE_VALUE_BYTES),
    ("grpc.max_send_message_length", -1),
    # A service is quicker than a dict can take in what it lists: what waits here to be read is bounded by
    # this, where gRPC by itself would let it grow to several times as much.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
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
    if not isinstance(target, str):
        raise InvalidArgumentError(f"target must be a str, as localhost:50051, not {type(target).__name__}")
    if target.startswith(_GRPC_NAMES):
        return target
    place = _HOST_AND_PORT.fullmatch(target)
    # gRPC would take 65537 for port 1, and a host alone for port 443.
    if place is None or not 0 < int(place["port"]) < 65536:
        raise InvalidArgumentError(
            f"target {target!r} must be HOST:PORT, as in localhost:50051, or a gRPC name such as unix:/path"
        )
    return target


def check_credentials(credentials: grpc.ChannelCredentials | None) -> None:
    """Raises InvalidArgumentError if they are no credentials."""
    if credentials is not None and not isinstance(credentials, grpc.ChannelCredentials):
        raise InvalidArgumentError(
            "credentials must be what grpc.ssl_channel_credentials() returns, not "
            f"{type(credentials).__name__}"
        )


def connect(
    target: str, credentials: grpc.ChannelCredentials | None, *options: tuple[str, Any]
) -> grpc.Channel:
    """Returns a channel to the target, with these options over those of every channel."""
    if credentials is None:
        return grpc.insecure_channel(target, [*OPTIONS, *options])
    return grpc.secure_channel(target, credentials, [*OPTIONS, *options])
