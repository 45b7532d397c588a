"""One Watch stream: takes its client's requests, and sends what his outbox holds."""

import asyncio
import functools
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from neardict.v1 import storage_pb2 as pb

from ..edge import describe
from ..errors import DrainingError, InvalidRequestError, StorageError
from .beginnings import Beginnings
from .hub import Hub
from .leases import Term
from .turns import Turns
from .watcher import MAX_WAITING_MESSAGES, Watcher

# After so many subscriptions that end with their stream it is the turn of others.
_LEFT_AT_ONCE = 1000


class Streams:
    """All Watch streams of a service. `close` ends them, which gRPC's own shutdown would not."""

    def __init__(self, hub_of: Callable[[str], Hub], heartbeat_seconds: float, term: Term) -> None:
        """`hub_of` returns the hub of a domain, or raises a StorageError."""
        self._term = term
        self._hub_of = hub_of
        self._heartbeat_seconds = heartbeat_seconds
        self._closing = asyncio.Event()
        self._open: set[Watcher] = set()
        self._turns = Turns()

    async def serve(
        self, requests: AsyncIterator[pb.WatchRequest], connection: str
    ) -> AsyncGenerator[pb.WatchResponse, None]:
        """Yields the messages to one client until he ends his side. Raises when the service drains.

        `connection` is what his stream comes by.
        """
        watcher = Watcher(self._turns, connection)
        self._open.add(watcher)
        beginnings = Beginnings()
        reader = asyncio.create_task(self._read(requests, watcher, beginnings))
        reader.add_done_callback(lambda _: watcher.wake())
        loop = asyncio.get_running_loop()
        # One timer for each heartbeat, since one for each wait for a message costs more than the message.
        timer = loop.call_later(self._heartbeat_seconds, watcher.wake)
        try:
            while not reader.done() and not self._closing.is_set():
                for message in await watcher.next():
                    yield message
                if loop.time() >= timer.when():
                    # Behind all that waits, since it says that all of that has been sent.
                    watcher.put(heartbeat(watcher))
                    timer = loop.call_later(self._heartbeat_seconds, watcher.wake)
            if self._closing.is_set():
                raise DrainingError("the service is shutting down: connect again in a moment")
            await reader
        finally:
            self._open.discard(watcher)
            timer.cancel()
            reader.cancel()
            beginnings.close()
            watcher.close()
            await _leave(watcher)

    def close(self) -> None:
        """Ends all streams."""
        self._closing.set()
        for watcher in self._open:
            watcher.wake()

    async def _read(
        self, requests: AsyncIterator[pb.WatchRequest], watcher: Watcher, beginnings: Beginnings
    ) -> None:
        async for request in requests:
            if watcher.waiting > MAX_WAITING_MESSAGES:
                raise InvalidRequestError("the client sends requests and does not read what it is sent")
            which = request.WhichOneof("request")
            if which == "subscribe":
                self._subscribe(request.subscribe, watcher, beginnings)
            elif which == "unsubscribe":
                beginnings.cancel(request.unsubscribe.domain)
                if hub := watcher.hubs.get(request.unsubscribe.domain):
                    hub.unsubscribe(watcher, request.unsubscribe.domain)
            elif which == "ping":
                watcher.ping = request.ping.number
                watcher.lease_until = self._term.end()
                watcher.put(heartbeat(watcher))
            elif which == "revoked":
                watcher.confirmed(request.revoked.number)
            else:
                raise InvalidRequestError("a WatchRequest needs subscribe, unsubscribe, ping or revoked")

    def _subscribe(self, request: pb.Subscribe, watcher: Watcher, beginnings: Beginnings) -> None:
        try:
            hub = self._hub_of(request.domain)
        except StorageError as error:
            watcher.put(_rejected(request.domain, error))
            return
        beginnings.begin(request.domain, hub, functools.partial(_begin, hub, watcher, request))


async def _leave(watcher: Watcher) -> None:
    """Ends all subscriptions, and lets others go on between them: he may have had hundreds of thousands."""
    cancelled = False
    while watcher.hubs:
        for domain, hub in list(itertools.islice(watcher.hubs.items(), _LEFT_AT_ONCE)):
            hub.unsubscribe(watcher, domain, served=True)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _begin(hub: Hub, watcher: Watcher, request: pb.Subscribe) -> None:
    try:
        await hub.subscribe(watcher, request.domain, request.from_revision, lease=request.lease)
    except Exception as error:
        # Also what is unforeseen: that this domain cannot be watched is no reason to end the others.
        watcher.put(_rejected(request.domain, error))


def _rejected(domain: str, error: Exception) -> pb.WatchResponse:
    code, message, reason, _ = describe("Watch", error)
    return pb.WatchResponse(
        rejected=pb.Rejected(domain=domain, code=code.value[0], reason=reason, message=message)
    )


def heartbeat(watcher: Watcher) -> pb.WatchResponse:
    """Returns what can be said of the domains that the watcher has subscribed."""
    uncertain = [domain for domain, hub in watcher.hubs.items() if not hub.certain(domain)]
    return pb.WatchResponse(heartbeat=pb.Heartbeat(uncertain_domains=uncertain, ping=watcher.ping))
