"""Reaches the Redis of the settings: one that stands alone, the one that Sentinels name, or a Cluster."""

from collections.abc import Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ClusterError

from .cluster import ClusterNodes, Node
from .pipeline import Command, replies_of
from .settings import RedisSettings

# One Sentinel that does not answer must not take the time that it takes to ask the next.
SENTINEL_SECONDS = 0.5


class Nodes(Protocol):
    """The nodes that keep the data. They are connected to when they are used."""

    @property
    def address(self) -> str:
        """What operators are told."""
        ...

    def place_of(self, key: bytes) -> str:
        """Returns which node has the key, or nothing if that is not known.

        What is on one node may fail while others work.
        """
        ...

    async def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """Returns the replies to commands whose keys were in one place, on one connection.

        A reply may be an error of redis-py. Raises what redis-py raises.
        """
        ...

    def listener(self) -> Any:
        """Returns a redis.asyncio.Redis that hears what is published on any node."""
        ...

    async def aclose(self) -> None: ...


class OneNode:
    """A Redis that has everything. `helpers` are clients that its client asks."""

    def __init__(self, address: str, client: Any, helpers: tuple[Any, ...] = ()) -> None:
        self.address = address
        self._client = client
        self._helpers = helpers

    def place_of(self, key: bytes) -> str:
        return self.address

    async def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        replies = await replies_of(self._client, [command.words for command in commands])
        # Where a cluster is down it is a node of one, and has no business here.
        return [ClusterError() if isinstance(reply, ClusterDownError) else reply for reply in replies]

    def listener(self) -> Any:
        return self._client

    async def aclose(self) -> None:
        for client in (self._client, *self._helpers):
            await client.aclose()


def reach(settings: RedisSettings) -> Nodes:
    """Returns the nodes of the settings; `max_connections` calls may use each at the same time."""
    options = _options(settings)
    bounds: dict[str, Any] = {
        "protocol": 2,
        # One more listens.
        "max_connections": settings.max_connections + 1,
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "socket_timeout": settings.command_timeout_seconds,
        "socket_keepalive": True,
        # By default redis-py repeats each command, also a write that may have been carried out.
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.cluster:
        start = Node(options.pop("host", "localhost"), options.pop("port", 6379))
        return ClusterNodes([start], lambda host, port: _client(**options, host=host, port=port, **bounds))
    if not settings.sentinels:
        address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return OneNode(address, _client(**options, **bounds))
    password = settings.sentinel_password
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]  # of redis-py
        [(host, int(port)) for host, _, port in (text.rpartition(":") for text in settings.sentinels)],
        sentinel_kwargs={
            "username": settings.sentinel_username,
            "password": password.get_secret_value() if password else None,
            "ssl": settings.ssl,
            "ssl_ca_certs": options.get("ssl_ca_certs"),
            "socket_connect_timeout": min(SENTINEL_SECONDS, settings.connect_timeout_seconds),
            "socket_timeout": min(SENTINEL_SECONDS, settings.command_timeout_seconds),
            "retry": Retry(NoBackoff(), 0),
        },
    )
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if settings.ssl:
        options["ssl"] = True
    # Each new connection asks for the primary. Those to a former one are closed when another is named.
    pool: Any = SentinelConnectionPool(  # type: ignore[no-untyped-call]  # of redis-py
        settings.sentinel_service, sentinel, **options, **bounds
    )
    client = redis.asyncio.Redis.from_pool(pool)
    return OneNode(f"sentinels of {settings.sentinel_service}", client, tuple(sentinel.sentinels))


def _client(**options: Any) -> Any:
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))


def _options(settings: RedisSettings) -> dict[str, Any]:
    """Returns how to reach Redis, in the words of redis-py's pool."""
    options: dict[str, Any]
    if settings.url is not None:
        options = dict(parse_url(settings.url.get_secret_value()))
    else:
        options = {
            "host": settings.host,
            "port": settings.port,
            "db": settings.db,
            "username": settings.username,
            "password": settings.password.get_secret_value() if settings.password else None,
        }
        if settings.ssl:
            options["connection_class"] = redis.asyncio.SSLConnection
    if settings.ssl_ca_file is not None:
        options["ssl_ca_certs"] = str(settings.ssl_ca_file)
    return options
