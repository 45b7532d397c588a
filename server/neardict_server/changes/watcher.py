"""What waits to be sent on one Watch stream: bounded, and never in the way of a writer."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING

from neardict.v1 import storage_pb2 as pb

from ..backends.base import TOLD_BYTES
from ..messages import to_timestamp, to_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.base import Change
    from .hub import Hub
    from .leases import Write
    from .turns import Turns

# What may wait for one client, over all its domains, each key counted once. Over it the domain with the
# most is reset: its client reads it anew, which is then cheaper than to go on.
MAX_WAITING_CHANGES = 20_000
MAX_WAITING_BYTES = 8 * 1024 * 1024
# Messages that may wait, several changes of a domain counted once: one who has so many does not read them.
MAX_WAITING_MESSAGES = 20_000
# A message with changes closes when it holds this much.
MAX_MESSAGE_BYTES = 128 * 1024
# So few changes are worded once for all who are sent them.
_FEW = 100


class Waiting:
    """The changes of a domain that wait: the last of each key, in the order of revisions.

    What does not travel with its change, as it is large, does not wait either.
    """

    def __init__(self) -> None:
        self.changes: dict[str, Change] = {}
        self.bytes = 0

    def add(self, change: Change) -> int:
        """Adds a change, instead of an earlier one of its key; returns how many more wait now."""
        if _size(change) > TOLD_BYTES:
            change = change._replace(value="", told=False)
        replaced = self.changes.pop(change.key, None)
        if replaced is not None:
            self.bytes -= _size(replaced)
        self.changes[change.key] = change
        self.bytes += _size(change)
        return replaced is None


class Watcher:
    """The outbox of one stream. Used on the event loop alone; nothing here waits but `next`.

    Invariant: for a domain, messages leave in the order in which they were put in, but that several
    changes of a key may have become the last of them, in the place of the first, and for `overtake`.
    """

    def __init__(
        self,
        turns: Turns,
        *,
        max_changes: int = MAX_WAITING_CHANGES,
        max_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._turns = turns
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        # Messages, and names of domains whose waiting changes are due at this place.
        self._outbox: deque[pb.WatchResponse | str] = deque()
        self._waiting: dict[str, Waiting] = {}
        self._changes = 0
        self._bytes = 0
        # While `next` waits and the outbox holds something, this is set or has been asked for.
        self._turn = asyncio.Event()
        self._idle = False
        # The hub of each domain that is subscribed.
        self.hubs: dict[str, Hub] = {}
        # The number of the client's last ping.
        self.ping = 0
        # When his leases are over, by the service's monotonic clock, and the writes that he was told of.
        self.lease_until = float("-inf")
        self.revokes: dict[int, Write] = {}

    @property
    def waiting(self) -> int:
        """How many messages wait, several changes of a domain counted once."""
        return len(self._outbox)

    def put(self, message: pb.WatchResponse) -> None:
        """Sends a message after everything that is there already."""
        self._append(message)

    def add(self, domain: str, change: Change) -> bool:
        """Sends a change, or returns False if there is no room: the domain must be reset then."""
        waiting = self._waiting.get(domain)
        if waiting is None:
            waiting = self._waiting[domain] = Waiting()
            self._append(domain)
        before = waiting.bytes
        self._changes += waiting.add(change)
        self._bytes += waiting.bytes - before
        return self._changes <= self._max_changes and self._bytes <= self._max_bytes

    def heaviest(self) -> str:
        """Returns the domain of which most waits."""
        return max(self._waiting, key=lambda domain: self._waiting[domain].bytes)

    def drop(self, domain: str) -> None:
        """Forgets the changes of the domain that wait."""
        waiting = self._waiting.pop(domain, None)
        if waiting is not None:
            self._outbox.remove(domain)
            self._changes -= len(waiting.changes)
            self._bytes -= waiting.bytes

    def overtake(self, domain: str, message: pb.WatchResponse) -> None:
        """Sends the message before all that waits, and not that the domain was subscribed before it."""
        self._outbox = deque(
            item for item in self._outbox if isinstance(item, str) or item.subscribed.domain != domain
        )
        self._outbox.appendleft(message)
        if self._idle:
            self._turns.ask(self._turn)

    def wake(self) -> None:
        """Makes `next` return, with or without messages."""
        self._turn.set()

    def close(self) -> None:
        """Has nothing sent any more, whatever is put in."""
        self._idle = False
        self._turns.leave(self._turn)

    async def next(self) -> Sequence[pb.WatchResponse]:
        """Returns the next messages of the outbox when it is this stream's turn, none at a `wake`."""
        # What was returned before has been sent, or it was nothing.
        self._turns.done(self._turn)
        if self._outbox:
            self._turns.ask(self._turn)
        self._idle = True
        await self._turn.wait()
        self._idle = False
        self._turn.clear()
        if not self._outbox:
            return []
        item = self._outbox.popleft()
        if isinstance(item, pb.WatchResponse):
            return [item]
        waiting = self._waiting.pop(item)
        self._changes -= len(waiting.changes)
        self._bytes -= waiting.bytes
        changes = tuple(waiting.changes.values())
        return _shared_messages(item, changes) if len(changes) <= _FEW else changes_messages(item, changes)

    def _append(self, item: pb.WatchResponse | str) -> None:
        self._outbox.append(item)
        if self._idle:
            self._turns.ask(self._turn)


@functools.lru_cache(maxsize=1)
def _shared_messages(domain: str, changes: tuple[Change, ...]) -> Sequence[pb.WatchResponse]:
    """As changes_messages. Those who watch one domain get the same messages, one right after the other."""
    return changes_messages(domain, changes)


def changes_messages(domain: str, changes: Sequence[Change]) -> Sequence[pb.WatchResponse]:
    """Returns messages, bounded in bytes, with the changes."""
    messages = []
    batch: list[pb.Change] = []
    size = 0
    for change in changes:
        batch.append(_message(change))
        size += _size(change)
        if size >= MAX_MESSAGE_BYTES:
            messages.append(_changes(domain, batch))
            batch, size = [], 0
    if batch:
        messages.append(_changes(domain, batch))
    return messages


def _changes(domain: str, batch: list[pb.Change]) -> pb.WatchResponse:
    return pb.WatchResponse(changes=pb.Changes(domain=domain, changes=batch, revision=batch[-1].revision))


def _message(change: Change) -> pb.Change:
    if change.value is None:
        return pb.Change(key=change.key, revision=change.revision, kind=pb.Change.KIND_DELETE)
    message = pb.Change(key=change.key, revision=change.revision, kind=pb.Change.KIND_SET)
    if change.told:
        message.value.CopyFrom(to_value(change.value))
    if change.expires is not None:
        message.expire_time.CopyFrom(to_timestamp(change.expires))
    return message


def _size(change: Change) -> int:
    """Returns about how many bytes the change takes, in memory and on the wire."""
    return len(change.key) + 32 + (len(change.value) if change.value is not None else 0)
