"""Who listens to changes, in processes of their own: bare streams, and the client's dicts.

The JSON value of each change is the time when its write began, in nanoseconds of the machine's monotonic
clock, which all processes share. A listener returns the pairs of that time and of the time when it was told.
"""

import asyncio
import itertools
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

import neardict
from neardict.v1 import storage_pb2 as pb

from . import process
from .bare import WatchStream

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 120.0
PING_SECONDS = 1.0

# (begun, told)
Arrival = tuple[int, int]


class _Listener:
    """A process that listens while the context lasts; it is asked one thing at a time."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, *args), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go_on()
        self._process.terminate()
        self._process.join()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def ask(self, *question: Any) -> Any:
        """Returns the answer. Raises RuntimeError if the process has ended, or TimeoutError."""
        self._pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(ANSWER_SECONDS):
            raise TimeoutError(f"a process that listens did not answer in {ANSWER_SECONDS:g} seconds")
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError("a process that listens has failed: see its output above") from None

    def arrivals(self, count: int) -> list[Arrival]:
        """Returns what has arrived since this was asked last, as soon as it is so many changes."""
        arrivals: list[Arrival] = self.ask("arrivals", count)
        if len(arrivals) != count:
            raise AssertionError(f"{len(arrivals)} changes arrived, not {count}")
        return arrivals

    def stop(self) -> None:
        """Has the process do nothing any more, not even read from its sockets, until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Watchers(_Listener):
    """Bare streams, each of a connection of its own, with a ping each second as a client sends.

    `subscribe` takes the domains of each stream and returns when all are subscribed.
    """

    def __init__(self, address: str) -> None:
        super().__init__(_watchers, address)

    def subscribe(self, streams: Sequence[Sequence[str]]) -> None:
        self.ask("subscribe", streams)


class Dicts(_Listener):
    """The client of this project, with a dict for each domain, which hold all entries or what is used."""

    def __init__(self, address: str) -> None:
        super().__init__(_dicts, address)

    def open(self, domains: Sequence[str], *, load: bool) -> tuple[float, int]:
        """Returns the seconds until all are subscribed, and the bytes by which that process has grown."""
        answer: tuple[float, int] = self.ask("open", domains, load)
        return answer

    def observe(self) -> None:
        """Has the dicts' changes arrive."""
        self.ask("observe")

    def expect_loss(self) -> None:
        """Has the process look out for the end of the stream; then `recovered` is to be called."""
        self.ask("loss")

    def recovered(self) -> int:
        """Waits until all dicts are fresh again; returns when that was, in nanoseconds."""
        answer: int = self._answer()
        return answer


# In the processes.


def _watchers(pipe: Connection, address: str) -> None:
    asyncio.run(_watch_all(pipe, address))


async def _watch_all(pipe: Connection, address: str) -> None:
    arrivals: list[Arrival] = []
    async with asyncio.TaskGroup() as group:
        while True:
            question, *args = await asyncio.to_thread(pipe.recv)
            if question == "subscribe":
                # One after the other, so that the service gets their pings at different times.
                for domains in args[0]:
                    group.create_task(_ping(await _watch(address, domains, arrivals)))
                pipe.send(None)
            else:
                # An Event that each of them sets would be part of what is measured.
                while len(arrivals) < args[0]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                pipe.send(list(arrivals))
                arrivals.clear()


async def _watch(address: str, domains: Sequence[str], arrivals: list[Arrival]) -> WatchStream:
    """Returns a stream that is subscribed to the domains. If it fails then, nothing arrives any more."""
    waiting = set(domains)
    subscribed = asyncio.get_running_loop().create_future()

    def received(message: pb.WatchResponse) -> None:
        now = time.monotonic_ns()
        which = message.WhichOneof("response")
        if which == "changes":
            arrivals.extend((int(change.value.json), now) for change in message.changes.changes)
        elif which == "subscribed":
            waiting.discard(message.subscribed.domain)
            if not waiting and not subscribed.done():
                subscribed.set_result(None)
        elif which != "heartbeat":
            failed(AssertionError(f"a watcher got {which}"))

    def failed(error: Exception) -> None:
        if not subscribed.done():
            subscribed.set_exception(error)
        else:
            logger.error("a watcher has failed: %s", error)

    stream = await WatchStream.open(address, received, failed)
    for domain in domains:
        stream.send(pb.WatchRequest(subscribe=pb.Subscribe(domain=domain)))
    await subscribed
    return stream


async def _ping(stream: WatchStream) -> None:
    for number in itertools.count(1):
        stream.send(pb.WatchRequest(ping=pb.Ping(number=number)))
        await asyncio.sleep(PING_SECONDS)


def _dicts(pipe: Connection, address: str) -> None:
    arrivals: list[Arrival] = []
    dicts: list[neardict.CachedDict] = []

    def told(key: str, value: int, revision: int) -> None:
        arrivals.append((value, time.monotonic_ns()))

    with neardict.connect(address) as store:
        while True:
            question, *args = pipe.recv()
            if question == "open":
                domains, load = args
                # The stream, and whatever else comes once.
                store.dict("bench.first")
                before, began = process.resident(), time.perf_counter()
                dicts += [store.dict(domain, load=load) for domain in domains]
                pipe.send((time.perf_counter() - began, process.resident() - before))
            elif question == "observe":
                for near in dicts:
                    near.on_change(told)
                pipe.send(None)
            elif question == "arrivals":
                while len(arrivals) < args[0]:
                    time.sleep(0.01)
                # Another thread adds to it.
                count = len(arrivals)
                pipe.send(arrivals[:count])
                del arrivals[:count]
            else:
                pipe.send(None)
                # The last to be told.
                while dicts[-1].fresh:
                    time.sleep(0.0005)
                while not all(near.fresh for near in dicts):
                    time.sleep(0.0005)
                pipe.send(time.monotonic_ns())
