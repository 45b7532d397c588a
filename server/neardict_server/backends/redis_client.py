"""A connection pool to one Redis that runs scripts, never waits without bound, and heals by itself."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import redis.asyncio
from pydantic import BeforeValidator, Field, FilePath, SecretStr, field_validator, model_validator
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ..errors import BackendUnavailableError, StorageError
from . import base
from .redis_errors import code_of, translate
from .redis_scripts import Script

logger = logging.getLogger(__name__)

# A connection that listens and hears nothing for so long asks whether it is still there.
LISTENING_SECONDS = 2.0


def _zero_for_none(db: Any) -> Any:
    return 0 if db is None else db


def _is_plain(url: str) -> bool:
    """Returns whether redis-py reads all of the URL. Options in its query could undo our bounds."""
    parts = urlsplit(url)
    return (
        parts.scheme in ("redis", "rediss")
        and bool(parts.hostname)
        and parts.port != 0
        and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
        and not parts.query
        and not parts.fragment
    )


class RedisSettings(base.Settings):
    """`[backends.NAME.settings]` of a redis backend."""

    host: str = Field(default="localhost", min_length=1)
    port: int = Field(default=6379, ge=1, le=65535)
    # Null, as Moobius files have it, is 0.
    db: Annotated[int, BeforeValidator(_zero_for_none)] = Field(default=0, ge=0)
    username: str | None = None
    password: SecretStr | None = None
    ssl: bool = False
    # In place of all of the above: redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss:// for TLS.
    url: SecretStr | None = None
    # Certificates to trust, in PEM; by default the system's.
    ssl_ca_file: FilePath | None = None
    # What all names in Redis begin with. Different ones keep neardicts in one Redis apart.
    key_prefix: str = Field(default="neardict", pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")
    connect_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    command_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    max_connections: int = Field(default=32, ge=1, le=1024)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            try:
                usable = _is_plain(url.get_secret_value())
            except ValueError:
                usable = False
            if not usable:
                raise ValueError(
                    "must be redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], or the same with rediss:// for "
                    "TLS, without options after it; special characters in it are percent-encoded"
                )
        return url

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if self.url is not None:
            for name in ("host", "port", "db", "username", "password", "ssl"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"url and {name} are both given: leave one of them out")
        secure = self.ssl or (self.url is not None and self.url.get_secret_value().startswith("rediss:"))
        if self.ssl_ca_file is not None and not secure:
            raise ValueError("ssl_ca_file is of use with TLS only: set ssl = true, or a rediss:// url")
        return self


class RedisClient:
    """Runs scripts on the Redis of the settings, each within a bounded time.

    A call ends at the latest after the two timeouts together. One that failed may have taken effect
    nevertheless, or may do so a little later: nothing is repeated here.
    """

    def __init__(self, settings: RedisSettings) -> None:
        options = _options(settings)
        self.address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._patience = settings.connect_timeout_seconds + settings.command_timeout_seconds
        # Held while a call uses a connection. Who waits for one and gives up has sent nothing.
        self._slots = asyncio.Semaphore(settings.max_connections)
        pool = redis.asyncio.ConnectionPool(
            **options,
            protocol=2,
            # One more listens.
            max_connections=settings.max_connections + 1,
            socket_connect_timeout=settings.connect_timeout_seconds,
            socket_timeout=settings.command_timeout_seconds,
            socket_keepalive=True,
            # By default redis-py repeats each command, also a write that may have been carried out.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Any = redis.asyncio.Redis.from_pool(pool)
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        # Whether the last call found Redis usable, so that the log tells of changes only.
        self._usable = True

    async def run(self, script: Script, keys: list[bytes], *data: str | bytes | int) -> Any:
        """Returns the script's reply. Raises the errors of `neardict_server.errors`."""
        try:
            async with asyncio.timeout(self._patience):
                await self._slots.acquire()
                if self._closed:
                    self._slots.release()
                    raise BackendUnavailableError("the backend is closing")
                # In a task of its own, which goes on if the caller is cancelled: a pool of redis-py loses
                # a place for good when it is cancelled while it takes a connection back.
                task = asyncio.ensure_future(self._run(script, keys, data))
                self._running.add(task)
                task.add_done_callback(self._ended)
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise self._failed(error) from None

    async def announcements(self, channel: str) -> AsyncGenerator[bytes | None, None]:
        """Yields what is published on the channel, and None every now and then; first when it listens.

        Some may be missing, without any sign. Raises as `run` does.
        """
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(channel)
            answered = True
            while True:
                message = await pubsub.get_message(timeout=LISTENING_SECONDS)
                if message is not None and message["type"] == "message":
                    yield message["data"]
                    continue
                if message is None:
                    if not answered:
                        raise TimeoutError
                    # No error comes from a connection that is half open.
                    await pubsub.ping()
                answered = message is not None
                yield None
        except (RedisError, OSError) as error:
            raise translate(error) from None
        finally:
            await pubsub.aclose()

    async def close(self) -> None:
        """Waits for the calls under way, which is not for long, and closes the connections."""
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._redis.aclose()

    async def _run(self, script: Script, keys: list[bytes], data: tuple[str | bytes | int, ...]) -> Any:
        try:
            try:
                reply = await self._redis.execute_command("EVALSHA", script.sha, len(keys), *keys, *data)
            except NoScriptError:
                # Redis restarted, or its scripts were flushed. Nothing was carried out.
                reply = await self._redis.execute_command("EVAL", script.text, len(keys), *keys, *data)
        except (RedisError, OSError) as error:
            raise self._failed(error) from None
        if not self._usable:
            self._usable = True
            logger.info("redis at %s can be used again", self.address)
        return reply

    def _failed(self, error: Exception) -> StorageError:
        failure = translate(error)
        if self._usable and isinstance(failure, BackendUnavailableError):
            self._usable = False
            logger.warning("redis at %s cannot be used: %s (%s)", self.address, failure, code_of(error))
        return failure

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._slots.release()
        self._running.discard(task)
        if not task.cancelled():
            # Retrieves it, in case the caller has gone.
            task.exception()


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
