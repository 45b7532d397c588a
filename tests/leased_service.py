"""Leases of a hub whose messages are taken by hand, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from neardict_server.backends.memory import MemoryBackend
from neardict_server.changes.hub import Hub
from neardict_server.changes.leased_backend import LeasedBackend
from neardict_server.changes.leases import MOST_DOMAINS, Leases, Term
from neardict_server.changes.turns import Turns
from neardict_server.changes.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from neardict.v1 import storage_pb2 as pb
    from neardict_server.backends import base

SECONDS = 3.0
DOMAIN = "d"


class Clock:
    """Stands still unless it is turned. `asyncio.timeout` of what waits does not look at it: see `turn`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """A hub with a backend of leases; what its watchers are sent is taken from their outboxes."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        seconds: float = SECONDS,
        memory: type[MemoryBackend] = MemoryBackend,
        most_domains: int = MOST_DOMAINS,
    ) -> None:
        self.clock = clock
        self._addresses = itertools.count()
        self.hub = Hub()
        self.kept = folder / "leases" / "memory"
        self.memory = memory(publish=self.hub.publish)
        self.hub.attach(self.memory)
        self.leases = self.hub.leases = Leases(
            Term(seconds, clock), self.kept, self.hub.slow, most_domains=most_domains
        )
        self.backend = LeasedBackend(self.memory, self.leases)

    async def join(
        self, *, lease: bool = True, from_revision: int = 0, connection: str | None = None
    ) -> Watcher:
        """Subscribes, from an address of his own unless the connection is given."""
        watcher = Watcher(Turns(), connection or f"ipv4:10.0.0.{next(self._addresses)}:1")
        await self.hub.subscribe(watcher, DOMAIN, from_revision, lease=lease)
        return watcher

    def write(self, key: str = "k", value: str = "1") -> asyncio.Task[base.Written]:
        return asyncio.create_task(self.backend.set_value(DOMAIN, key, value))

    def execute(self, *operations: base.Operation) -> asyncio.Task[Sequence[base.Outcome]]:
        return asyncio.create_task(self.backend.execute(DOMAIN, operations))

    def turn(self, seconds: float, *writes: asyncio.Task[Any]) -> None:
        """Lets time pass, for the clock and for those who wait."""
        self.clock.now += seconds
        for write in self.leases._writes.get(DOMAIN, {}):
            if write._progress is not None:
                write._progress.set()


async def sent(watcher: Watcher) -> list[pb.WatchResponse]:
    """Returns what has been put into the outbox so far."""
    messages: list[pb.WatchResponse] = []
    while watcher.waiting:
        messages += await watcher.next()
    return messages


def kinds(messages: list[pb.WatchResponse]) -> list[str]:
    return [message.WhichOneof("response") or "" for message in messages]


async def settle() -> None:
    """Lets all that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def confirm(watcher: Watcher, messages: list[pb.WatchResponse]) -> None:
    for message in messages:
        if message.HasField("revoke"):
            watcher.confirmed(message.revoke.number)
