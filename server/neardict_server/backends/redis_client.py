"""Runs scripts in Redis, never waits without bound, and heals by itself."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from ..errors import BackendUnavailableError, StorageError
from .redis_errors import code_of, translate
from .redis_scripts import Script
from .redis_settings import RedisSettings
from .redis_topology import reach

logger = logging.getLogger(__name__)

# A connection that listens and hears nothing for so long asks whether it is still there.
LISTENING_SECONDS = 2.0


class RedisClient:
    """Runs scripts on the Redis of the settings, each within a bounded time.

    A call ends at the latest after the two timeouts together. One that failed may have taken effect
    nevertheless, or may do so a little later: nothing is repeated here.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.nodes = reach(settings)
        self._patience = settings.connect_timeout_seconds + settings.command_timeout_seconds
        # For each node, held while a call uses a connection to it. Who waits for one and gives up has sent
        # nothing, and who waits for a node that is frozen does not keep others from theirs.
        self._slots = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(settings.max_connections))
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        # Whether the last call found Redis usable, so that the log tells of changes only.
        self._usable = True

    async def run(self, script: Script, keys: list[bytes], *data: str | bytes | int) -> Any:
        """Returns the script's reply. Raises the errors of `neardict_server.errors`."""
        try:
            async with asyncio.timeout(self._patience):
                slots = self._slots[self.nodes.place_of(keys[0])]
                await slots.acquire()
                if self._closed:
                    slots.release()
                    raise BackendUnavailableError("the backend is closing")
                # In a task of its own, which goes on if the caller is cancelled: a pool of redis-py loses
                # a place for good when it is cancelled while it takes a connection back.
                task = asyncio.ensure_future(self._run(script, keys, data))
                self._running.add(task)
                task.add_done_callback(partial(self._ended, slots))
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise self._failed(error) from None

    async def announcements(self, channel: str) -> AsyncGenerator[bytes | None, None]:
        """Yields what is published on the channel, and None every now and then; first when it listens.

        Some may be missing, without any sign. Raises as `run` does.
        """
        pubsub = self.nodes.listener().pubsub()
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
        await self.nodes.aclose()

    async def _run(self, script: Script, keys: list[bytes], data: tuple[str | bytes | int, ...]) -> Any:
        try:
            try:
                reply = await self.nodes.execute(keys[0], "EVALSHA", script.sha, len(keys), *keys, *data)
            except NoScriptError:
                # Redis restarted, or its scripts were flushed. Nothing was carried out.
                reply = await self.nodes.execute(keys[0], "EVAL", script.text, len(keys), *keys, *data)
        except (RedisError, OSError) as error:
            raise self._failed(error) from None
        if not self._usable:
            self._usable = True
            logger.info("redis at %s can be used again", self.nodes.address)
        return reply

    def _failed(self, error: Exception) -> StorageError:
        failure = translate(error)
        if self._usable and isinstance(failure, BackendUnavailableError):
            self._usable = False
            logger.warning("redis at %s cannot be used: %s (%s)", self.nodes.address, failure, code_of(error))
        return failure

    def _ended(self, slots: asyncio.Semaphore, task: asyncio.Task[Any]) -> None:
        slots.release()
        self._running.discard(task)
        if not task.cancelled():
            # Retrieves it, in case the caller has gone.
            task.exception()
