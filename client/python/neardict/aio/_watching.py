"""Drives the Watch stream of an asynchronous store: a thread reads it, all else is done on the event loop.

A stream of grpc.aio could not be ended before a fork, and gRPC's own threads would go on reading it in the
child, until that crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from .. import _forks
from .._reading import Line, Reading
from .._session import PING_SECONDS
from ._threads import in_thread, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._connection import Renewal
    from .._connectivity import Connectivity
    from .._session import Session
    from ..v1 import storage_pb2 as pb

# So many messages may wait for the loop. Then nothing is read until it takes one, and what comes meanwhile
# is coalesced by the service.
_MOST_WAITING = 32
# How often who waits for room looks whether there is a loop yet, in seconds.
_LOOK_SECONDS = 1.0


class Watching:
    """Opens streams, sends pings, and gives up streams that are silent."""

    def __init__(self, session: Session, line: Line, renewal: Renewal, connectivity: Connectivity) -> None:
        self._session = session
        self._connectivity = connectivity
        self._line = line
        self._renewal = renewal
        self._loop = asyncio.get_running_loop()
        self._relay: _Relay | None = None
        self._dropped = False
        self._ticking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def wait(self, domain: str, seconds: float) -> None:
        """Returns when the service has answered the subscription, or the stream fails, or time is over."""
        failures = self._session.failures
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._session.settled(domain) and self._session.failures == failures:
                    self._news.clear()
                    await self._news.wait()

    def start(self) -> None:
        """Starts what is to run, if it does not run yet."""
        if self._ticking is None and not self._session.closed:
            self.resume()
            self._ticking = asyncio.create_task(self._tick())

    def pause(self) -> bool:
        """Ends the stream and the thread, until `resume` is called; returns whether it ran. From any thread.

        Waits for nothing that the loop does, as it is the loop that waits here.
        """
        relay, self._relay = self._relay, None
        if relay is None:
            return False
        if not self._loop.is_running() or running_loop() is self._loop:
            relay.end(self._session.leave)
            self._lose()
        else:
            # The dicts belong to the loop's thread. Leases run out by themselves.
            relay.end(lambda: False)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._lose)
        return True

    def _lose(self) -> None:
        """The stream was ended here: what is held is not fresh any more, and the service is not lost."""
        with self._connectivity.hold():
            self._session.lost()

    def resume(self) -> None:
        """Starts the thread that reads. From any thread."""
        if not self._session.closed:
            relay = self._relay = _Relay(self._session, self._line, self._loop, self._news)
            if self._session.closed:
                # By another thread, meanwhile, which has not seen it.
                relay.end(lambda: False)  # type: ignore[unreachable]  # mypy takes it for what it was

    async def close(self) -> None:
        """Ends the stream, the thread and the task."""
        self._session.close()
        self._news.set()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        try:
            if self._relay is not None:
                relay, self._relay = self._relay, None
                # Nobody need wait for what was leased here, if the service hears that it is given back.
                await in_thread(lambda: relay.end(self._session.leave), name="neardict close")
        finally:
            self._line.close()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Returns what runs on the loop."""
        return [self._ticking] if self._ticking is not None else []

    def abandon(self) -> None:
        """Ends the stream and the thread, where the loop has ended, or stands still."""
        self._session.close()
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.end(lambda: False)
        self._line.close()

    def drop(self) -> None:
        """Ends the stream, thread and task in a moment: nobody can use them any more. For finalizers."""
        self._dropped = True

    async def _tick(self) -> None:
        wait: float | None = PING_SECONDS
        try:
            # With grpc.aio's own thread there, nothing of gRPC that is made in the child of a fork is safe.
            with _forks.call():
                while True:
                    due = self._loop.time() + (PING_SECONDS if wait is None else wait)
                    await asyncio.sleep(max(0.0, due - self._loop.time()))
                    if self._dropped:
                        return
                    answered = self._session.was_answered()
                    wait = self._session.tick()
                    if wait is None and self._relay is not None:
                        self._relay.give_up()
                        if answered:
                            self._renewal.silent(self._loop.time() - due)
        finally:
            if not self._session.closed:
                # The loop ends, or nobody holds the store, and nobody has closed it.
                self.pause()
                self._line.close()


class _Relay:
    """A thread that reads streams, and has the loop tell the session what they bring, in order."""

    def __init__(
        self, session: Session, line: Line, loop: asyncio.AbstractEventLoop, news: asyncio.Event
    ) -> None:
        self._session = session
        self._loop = loop
        self._news = news
        self._room = threading.Semaphore(_MOST_WAITING)
        # Whether what waits for the loop is not to be told any more: until the stream is lost, or for good.
        self._given_up = self._ended = False
        self._reading = Reading(self, line)
        self._reading.start()

    def give_up(self) -> None:
        """Ends the stream that is open now, after the session has been told that it is lost."""
        self._given_up = True
        self._reading.give_up()

    def end(self, leave: Callable[[], bool]) -> None:
        """Ends the stream and the thread; `leave` is as for Reading."""
        self._ended = True
        self._room.release()
        self._reading.end(leave)

    # In the thread that reads.

    def opened(self, send: Callable[[pb.WatchRequest], None]) -> None:
        self._hand_over(self._session.opened, send)

    def received(self, message: pb.WatchResponse) -> None:
        self._hand_over(self._receive, message)

    def lost(self) -> None:
        self._hand_over(self._lose)

    def _hand_over(self, work: Callable[..., None], *args: object) -> None:
        while not self._ended and not self._room.acquire(timeout=_LOOK_SECONDS):
            if self._loop.is_closed():
                break
        if self._ended:
            return
        try:
            self._loop.call_soon_threadsafe(self._do, work, *args)
        except RuntimeError:
            # The loop has been closed, and the store has not.
            self._ended = True
            self._reading.stopped.set()
            self._reading.give_up()

    # On the loop.

    def _do(self, work: Callable[..., None], *args: object) -> None:
        self._room.release()
        if not self._ended:
            work(*args)
            self._news.set()

    def _receive(self, message: pb.WatchResponse) -> None:
        if self._given_up:
            return
        try:
            self._session.received(message)
        except Exception as error:
            # Whatever it was, some change has not been applied: only a new stream mends that.
            self._reading.complain(error)
            self._session.lost()
            self.give_up()

    def _lose(self) -> None:
        self._given_up = False
        self._session.lost()
