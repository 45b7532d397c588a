"""Runs scripts in Redis, never waits without bound, and heals by itself."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from ...errors import BackendUnavailableError, StorageError
from .errors import code_of, translate
from .pipeline import Command
from .scripts import Script
from .settings import RedisSettings
from .topology import reach

logger = logging.getLogger(__name__)

# A connection that listens and hears nothing for so long asks whether it is still there.
LISTENING_SECONDS = 2.0
# So many calls go down a connection together, and wait for each other's replies.
MOST_CALLS = 32


class _Call:
    """A script to be run; `done` has its reply, or is cancelled if nobody waits for it any more."""

    __slots__ = ("data", "done", "keys", "script")

    def __init__(self, script: Script, keys: list[bytes], data: tuple[str | bytes | int, ...]) -> None:
        self.script = script
        self.keys = keys
        self.data = data
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def command(self, name: str = "EVALSHA") -> Command:
        script = self.script.sha if name == "EVALSHA" else self.script.text
        return Command(self.keys[0], (name, script, len(self.keys), *self.keys, *self.data))

    def answer(self, reply: Any) -> None:
        if self.done.done():
            return  # the caller has gone
        if isinstance(reply, Exception):
            self.done.set_exception(reply)
        else:
            self.done.set_result(reply)


class _Line:
    """The calls that wait for a node, and how many connections to it are in use.

    Who gives up in here has sent nothing, and who waits for a node that is frozen does not keep others from
    theirs.
    """

    def __init__(self, most: int) -> None:
        self.waiting: deque[_Call] = deque()
        self.busy = 0
        # Whether a task is about to take what waits.
        self.starting = False
        self._most = most

    def take(self) -> list[_Call]:
        """Removes the first calls, without those whose callers have gone."""
        calls: list[_Call] = []
        while self.waiting and len(calls) < self._most:
            call = self.waiting.popleft()
            if not call.done.done():
                calls.append(call)
        return calls


class RedisClient:
    """Runs scripts on the Redis of the settings, each within a bounded time.

    Those that wait for a node at the same moment go down one connection. A call ends at the latest after the
    two timeouts together. One that failed may have taken effect nevertheless, or may do so a little later:
    nothing is repeated here.
    """

    def __init__(self, settings: RedisSettings, name: str = "") -> None:
        self._name = name
        self.nodes = reach(settings)
        self._patience = settings.connect_timeout_seconds + settings.command_timeout_seconds
        self._connections = settings.max_connections
        self._lines: dict[str, _Line] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        # Whether the last call found Redis usable, so that the log tells of changes only.
        self._usable = True

    async def run(self, script: Script, keys: list[bytes], *data: str | bytes | int) -> Any:
        """Returns the script's reply. Raises the errors of `neardict_server.errors`."""
        if self._closed:
            raise _closing()
        place = self.nodes.place_of(keys[0])
        line = self._lines.get(place)
        if line is None:
            # Where it is not known which node has a key, calls may be for different ones.
            line = self._lines[place] = _Line(MOST_CALLS if place else 1)
        call = _Call(script, keys, data)
        line.waiting.append(call)
        self._go_on(line)
        try:
            async with asyncio.timeout(self._patience):
                return await call.done
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
            raise translate(error, self._name) from None
        finally:
            await pubsub.aclose()

    async def close(self) -> None:
        """Waits for the calls under way, which is not for long, and closes the connections."""
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.nodes.aclose()

    def _go_on(self, line: _Line) -> None:
        """Sees to it that what waits is taken, if a connection may be used."""
        if line.waiting and not line.starting and line.busy < self._connections:
            line.starting = True
            line.busy += 1
            # In a task of its own, which goes on if callers are cancelled: a pool of redis-py loses a place
            # for good when it is cancelled while it takes a connection back.
            task = asyncio.get_running_loop().create_task(self._carry(line))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _carry(self, line: _Line) -> None:
        # By now all are there that came at the same moment.
        line.starting = False
        calls = line.take()
        self._go_on(line)
        try:
            if self._closed:
                for call in calls:
                    call.answer(_closing())
            elif calls:
                await self._send(calls)
        finally:
            for call in calls:
                call.done.cancel()  # if this has been cancelled, as the loop ends
            line.busy -= 1
            self._go_on(line)

    async def _send(self, calls: list[_Call]) -> None:
        replies: list[Any]
        try:
            replies = await self.nodes.execute_many([call.command() for call in calls])
        except Exception as error:
            replies = [error] * len(calls)
        for call, reply in zip(calls, replies, strict=True):
            answer = reply
            if isinstance(reply, NoScriptError):
                # Redis restarted, or its scripts were flushed. Nothing was carried out.
                try:
                    (answer,) = await self.nodes.execute_many([call.command("EVAL")])
                except Exception as error:
                    answer = error
            if isinstance(answer, (RedisError, OSError)):
                call.answer(self._failed(answer))
                continue
            call.answer(answer)
            if not self._usable:
                self._usable = True
                logger.info("redis at %s can be used again", self.nodes.address)

    def _failed(self, error: Exception) -> StorageError:
        failure = translate(error, self._name)
        if self._usable and isinstance(failure, BackendUnavailableError):
            self._usable = False
            logger.warning("redis at %s cannot be used: %s (%s)", self.nodes.address, failure, code_of(error))
        return failure


def _closing() -> BackendUnavailableError:
    return BackendUnavailableError("the backend is closing")
