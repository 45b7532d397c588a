"""The connections of an asynchronous store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from .._connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._channel import Settings


class Connections:
    """One for calls, and one for the stream, whose fate and flow control are those of no other call."""

    def __init__(self, settings: Settings) -> None:
        def connect() -> grpc.aio.Channel:
            if settings.credentials is None:
                return grpc.aio.insecure_channel(settings.target, settings.options)
            return grpc.aio.secure_channel(settings.target, settings.credentials, settings.options)

        self.calls = Connection(connect)
        self.stream = Connection(connect)
        self._closing: set[asyncio.Task[None]] = set()

    def renew(self, then: Callable[[], object], *, at_once: bool) -> None:
        """Renews both, and closes what is to be closed soon, after `then` has moved the stream."""
        leaving = [*self.stream.renew(at_once=at_once), *self.calls.renew(at_once=at_once)]
        then()
        for channel in leaving:
            task = asyncio.create_task(channel.close(), name="neardict renew")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Ends both."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for channel in [*self.stream.close(), *self.calls.close()]:
            await channel.close()
