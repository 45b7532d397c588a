"""How a client reaches the service: its address, and the options of the connection."""

import os
import re
from typing import Any, Literal, NamedTuple, get_args

import grpc

from ._replies import MOST_MESSAGE_VALUE_BYTES
from .errors import InvalidArgumentError

# How calls are spread over the addresses behind one name.
Balance = Literal["pick_first", "round_robin"]

DEFAULT_TARGET = "localhost:50051"
# Long enough for a service that restarts, short enough for a person who waits.
DEFAULT_TIMEOUT = 10.0  # seconds

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
# https://github.com/grpc/grpc/blob/master/doc/naming.md
_GRPC_NAMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")

# docs/grpc.md has all of gRPC's options, and what is decided of each.
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
    # A peer that vanished or hangs is noticed within 15 seconds. The wait for the answer is bounded by the
    # last of these; by itself it is a minute, whatever the timeout of keepalive is.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A restarted service is found again within a second, also at another address.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # In spite of its name: how long an attempt to connect may take, TLS and a slow line included.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # gRPC would ask for 2 minutes.
    ("grpc.dns_ares_query_timeout", 10_000),
    # How calls are tried again is part of what is promised: no TXT record of a name's zone changes it.
    ("grpc.service_config_disable_resolution", 1),
    # Stores do not share connections, so that each can replace its own.
    ("grpc.use_local_subchannel_pool", 1),
]
# The variables http_proxy, https_proxy and grpc_proxy are meant for the web, and GRPC_ADDRESS_HTTP_PROXY for
# other calls: a service of one's own network is not behind them.
_NO_PROXY: dict[str, Any] = {
    "grpc.enable_http_proxy": 0,
    "grpc.address_http_proxy_enabled_addresses": "",
}
# Of several servers at once the stream of changes tells of its own alone. Another one that hangs is left
# in less than the time that a call has by default. The service allows a ping each 5 seconds.
_KEEPALIVE_OF_EACH: dict[str, Any] = {
    "grpc.keepalive_time_ms": 5_500,
    "grpc.keepalive_timeout_ms": 2_500,
    "grpc.http2.ping_timeout_ms": 2_500,
}


class Settings(NamedTuple):
    """What all channels of a store have in common."""

    target: str
    credentials: grpc.ChannelCredentials | None = None
    proxy: bool = False
    balance: Balance = "pick_first"

    @property
    def options(self) -> list[tuple[str, Any]]:
        """What to give a channel."""
        own = dict(OPTIONS) | {"grpc.lb_policy_name": self.balance}
        if not self.proxy:
            own |= _NO_PROXY
        if self.balance == "round_robin":
            own |= _KEEPALIVE_OF_EACH
        return list(own.items())


def settings(
    target: str | None, credentials: grpc.ChannelCredentials | None, *, proxy: bool, balance: Balance
) -> Settings:
    """Returns them, checked. Raises InvalidArgumentError."""
    check_credentials(credentials)
    if not isinstance(proxy, bool):
        raise InvalidArgumentError(f"proxy must be True or False, not {type(proxy).__name__}")
    if balance not in get_args(Balance):
        known = " or ".join(map(repr, get_args(Balance)))
        raise InvalidArgumentError(f"balance must be {known}, not {balance!r}")
    return Settings(resolve_target(target), credentials, proxy, balance)


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


def connect(settings: Settings) -> grpc.Channel:
    """Returns a channel, which connects when it is used."""
    if settings.credentials is None:
        return grpc.insecure_channel(settings.target, settings.options)
    return grpc.secure_channel(settings.target, settings.credentials, settings.options)
