"""Drives the Watch stream of an asynchronous store, with a task that ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any

import grpc

from .. import _forks
from .._watching import FAREWELL_SECONDS, FIRST_PAUSE, LONGEST_PAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .._session import Session
    from ..v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)


class Watching:
    """Opens streams, reads them, sends pings, and gives up streams that are silent."""

    def __init__(
        self, session: Session, open_stream: Callable[[AsyncIterator[pb.WatchRequest]], Awaitable[Any]]
    ) -> None:
        """`open_stream` calls the RPC Watch with the requests, and returns the call."""
        self._session = session
        self._open_stream = open_stream
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        # What is to be sent on the stream; None ends this side of it.
        self._requests: asyncio.Queue[pb.WatchRequest | None] = asyncio.Queue()
        self._ended = asyncio.Event()

    async def wait(self, domain: str, seconds: float) -> None:
        """Returns when the service has answered the subscription, or the stream fails, or time is over."""
        failures = self._session.failures
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._session.settled(domain) and self._session.failures == failures:
                    self._news.clear()
                    await self._news.wait()

    def start(self) -> None:
        """Starts the task, if it does not run yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends the stream and the task."""
        self._session.close()
        self._news.set()
        if self._session.leave():
            # Nobody need wait for what was leased here, if the service hears that it is given back.
            self._requests.put_nowait(None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), FAREWELL_SECONDS)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        longest = FIRST_PAUSE
        while True:
            requests = self._requests = asyncio.Queue()
            self._ended.clear()
            call = await self._open_stream(_items(requests))
            pinging = asyncio.create_task(self._tick(call))
            try:
                with _forks.call():
                    self._session.opened(requests.put_nowait)
                    async for message in call:
                        longest = FIRST_PAUSE
                        self._session.received(message)
                        self._news.set()
            except (grpc.RpcError, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # A call that `_tick` gave up ends like a cancelled task.
                logger.debug("the watch stream has ended: %r", type(error))
            except Exception:
                # Whatever it was, some change has not been applied: only a new stream mends that.
                logger.exception("a change could not be applied: the stream begins again")
            finally:
                self._session.lost()
                self._ended.set()
                self._news.set()
                pinging.cancel()
                call.cancel()
                # gRPC's task that sends them does not end with a call that ends by itself.
                requests.put_nowait(None)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # no secret
            longest = min(2 * longest, LONGEST_PAUSE)

    async def _tick(self, call: Any) -> None:
        while (wait := self._session.tick()) is not None:  # noqa: ASYNC110  # it is time that we wait for
            await asyncio.sleep(wait)
        call.cancel()


async def _items(requests: asyncio.Queue[pb.WatchRequest | None]) -> AsyncIterator[pb.WatchRequest]:
    while (request := await requests.get()) is not None:
        yield request
