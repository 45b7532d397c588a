"""Reaches the Redis of the settings: the one that stands alone, or the one that Sentinels name."""

from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from .redis_settings import RedisSettings

# One Sentinel that does not answer must not take the time that it takes to ask the next.
SENTINEL_SECONDS = 0.5


class Reached(NamedTuple):
    """`client` is a redis.asyncio.Redis, and `helpers` are those that it asks. All are to be closed."""

    # To be told to operators.
    address: str
    client: Any
    helpers: tuple[Any, ...] = ()


def reach(settings: RedisSettings) -> Reached:
    """Returns a client that connects when it is used, without a limit of its own to the calls at a time."""
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
    if not settings.sentinels:
        address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return Reached(
            address, redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options, **bounds))
        )
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
    return Reached(f"sentinels of {settings.sentinel_service}", client, tuple(sentinel.sentinels))


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
