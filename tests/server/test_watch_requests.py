"""Requests of one Watch stream while engines take their time: each waits for its own, the last one counts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from neardict.v1 import storage_pb2 as pb
from neardict_server.backends import base
from neardict_server.changes.beginnings import AT_ONCE
from neardict_server.changes.hub import Hub
from neardict_server.changes.leases import Term
from neardict_server.changes.stream import Streams
from neardict_server.changes.turns import Turns
from neardict_server.changes.watcher import MAX_WAITING_MESSAGES, Watcher
from neardict_server.errors import BackendUnavailableError, DrainingError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Engine:
    """A feed that answers when the test says so, and fails for a domain named so."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.asked: list[tuple[str, int]] = []

    async def position(self, domain: str, from_revision: int) -> base.Position:
        self.asked.append((domain, from_revision))
        await self.answers[domain].wait()
        if domain.startswith("broken"):
            raise BackendUnavailableError("broken")
        if domain.startswith("odd"):
            raise RuntimeError("odd")
        return base.Position(7)

    def certain(self, domain: str) -> bool:
        return True


class Client:
    """One stream: what the test sends is taken, what the service says is noted."""

    def __init__(self, hub: Hub) -> None:
        self._streams = Streams(lambda domain: hub, 60, Term(3))
        self._requests: asyncio.Queue[pb.WatchRequest] = asyncio.Queue()
        self._pings = 0
        self.said: list[str] = []

    def subscribe(self, domain: str, from_revision: int = 0) -> None:
        subscribe = pb.Subscribe(domain=domain, from_revision=from_revision)
        self._requests.put_nowait(pb.WatchRequest(subscribe=subscribe))

    def unsubscribe(self, domain: str) -> None:
        self._requests.put_nowait(pb.WatchRequest(unsubscribe=pb.Unsubscribe(domain=domain)))

    async def ping(self) -> None:
        """Returns when everything that was sent before has been taken, and a ping answered."""
        self._pings += 1
        self._requests.put_nowait(pb.WatchRequest(ping=pb.Ping(number=self._pings)))
        await self.until(f"ping {self._pings}")

    async def until(self, words: str) -> None:
        async with asyncio.timeout(10):
            while words not in self.said:
                await asyncio.sleep(0)

    async def run(self) -> None:
        async for response in self._streams.serve(self._taken(), ""):
            which = response.WhichOneof("response")
            message = getattr(response, which or "")
            what = message.ping if isinstance(message, pb.Heartbeat) else message.domain
            self.said.append(f"{'ping' if which == 'heartbeat' else which} {what}")

    async def _taken(self) -> AsyncIterator[pb.WatchRequest]:
        while True:
            yield await self._requests.get()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def hub(engine: Engine) -> Hub:
    hub = Hub()
    hub.attach(engine)
    return hub


@contextlib.asynccontextmanager
async def connected(hub: Hub) -> AsyncIterator[Client]:
    client = Client(hub)
    running = asyncio.create_task(client.run())
    yield client
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_pings_and_other_domains_do_not_wait_for_a_slow_one(engine: Engine, hub: Hub) -> None:
    engine.answers["quick"].set()
    async with connected(hub) as client:
        client.subscribe("slow")
        client.subscribe("quick")
        await client.ping()
        await client.until("subscribed quick")
        assert "subscribed slow" not in client.said
        engine.answers["slow"].set()
        await client.until("subscribed slow")


async def test_no_more_begin_at_once_than_the_engine_is_asked_for(engine: Engine, hub: Hub) -> None:
    names = [f"domain {number}" for number in range(3 * AT_ONCE)]
    async with connected(hub) as client:
        for name in names:
            client.subscribe(name)
        await client.ping()
        assert [domain for domain, _ in engine.asked] == names[:AT_ONCE]
        for name in names:
            engine.answers[name].set()
        for name in names:
            await client.until(f"subscribed {name}")


async def test_the_last_subscription_of_a_domain_counts(engine: Engine, hub: Hub) -> None:
    async with connected(hub) as client:
        client.subscribe("d", 1)
        await client.ping()
        client.subscribe("d", 2)
        await client.ping()
        engine.answers["d"].set()
        await client.until("subscribed d")
        await client.ping()
        assert engine.asked == [("d", 1), ("d", 2)]
        assert client.said.count("subscribed d") == 1
        assert hub.watched() == ["d"]
        hub.publish("d", 7, base.Change("key", 8, "1"))
        await client.until("changes d")


async def test_who_leaves_before_it_begins_hears_nothing(engine: Engine, hub: Hub) -> None:
    async with connected(hub) as client:
        client.subscribe("d")
        await client.ping()
        client.unsubscribe("d")
        await client.ping()
        engine.answers["d"].set()
        await client.ping()
        assert "subscribed d" not in client.said
        assert hub.watched() == []
    async with connected(hub) as client:
        engine.answers["d"].clear()
        client.subscribe("d")
        await client.ping()
    assert hub.watched() == []


@pytest.mark.parametrize("domain", ["broken", "odd"])
async def test_a_domain_that_fails_is_rejected_and_the_stream_goes_on(
    engine: Engine, hub: Hub, domain: str
) -> None:
    engine.answers[domain].set()
    async with connected(hub) as client:
        client.subscribe(domain)
        await client.until(f"rejected {domain}")
        await client.ping()
        assert hub.watched() == []


async def test_the_log_tells_of_a_loss_once_however_many_watch(
    engine: Engine, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers["d"].set()
    async with contextlib.AsyncExitStack() as clients:
        watching = [await clients.enter_async_context(connected(hub)) for _ in range(20)]
        for client in watching:
            client.subscribe("d")
            await client.until("subscribed d")
        with caplog.at_level(logging.INFO):
            hub.lost("d")
        for client in watching:
            await client.until("reset d")
        assert [record.getMessage() for record in caplog.records] == [
            "changes of 'd' were lost: 20 watchers begin anew"
        ]


async def test_who_asks_and_does_not_read_is_not_listened_to_for_ever() -> None:
    async def pings() -> AsyncIterator[pb.WatchRequest]:
        for number in range(1, 2 * MAX_WAITING_MESSAGES):
            taken.append(number)
            yield pb.WatchRequest(ping=pb.Ping(number=number))

    taken: list[int] = []
    streams = Streams(lambda domain: Hub(), 60, Term(3))
    responses = streams.serve(pings(), "")
    assert (await anext(responses)).heartbeat.ping == 1
    await asyncio.sleep(0)
    # One more than may wait, and the one at which it was noticed.
    assert len(taken) == MAX_WAITING_MESSAGES + 2
    with pytest.raises(InvalidRequestError, match="does not read"):
        await anext(response async for response in responses if not response.HasField("heartbeat"))


async def test_a_stream_that_ends_as_the_service_drains_says_so() -> None:
    async def silent() -> AsyncIterator[pb.WatchRequest]:
        await asyncio.Event().wait()
        yield pb.WatchRequest()

    streams = Streams(lambda _: Hub(), 60.0, Term(3.0))
    first = asyncio.ensure_future(anext(streams.serve(silent(), "")))
    await asyncio.sleep(0)
    streams.close()
    with pytest.raises(DrainingError):
        await first


async def test_large_values_do_not_wait_for_one_who_does_not_read() -> None:
    watcher = Watcher(Turns(), max_bytes=10_000)
    for number in range(1, 11):
        assert watcher.add("d", base.Change(f"k{number}", number, "x" * 100_000, 5_000_000))
    assert [change.value for change in watcher._waiting["d"].changes.values()] == [""] * 10
    (message,) = await watcher.next()
    for change in message.changes.changes:
        assert change.kind == pb.Change.KIND_SET
        assert not change.HasField("value")
        assert change.expire_time.seconds == 5
