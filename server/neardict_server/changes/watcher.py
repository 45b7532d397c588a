"""What waits to be sent on one Watch stream: bounded, and never in the way of a writer."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING

from neardict.v1 import storage_pb2 as pb

from ..backends.base import MOST_MISSED, TOLD_BYTES
from ..messages import to_timestamp, to_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..backends.base import Change
    from .hub import Hub
    from .leases import Write
    from .turns import Turns

# What may wait for one client, over all its domains, each key counted once. Over it the domain with the
# most is reset: its client reads it anew, which is then cheaper than to go on.
MAX_WAITING_CHANGES = MOST_MISSED
MAX_WAITING_BYTES = 8 * 1024 * 1024
# Messages that may wait, several changes of a domain counted once: one who has so many does not read them.
MAX_WAITING_MESSAGES = 20_000
# A message with changes closes when it holds this much.
MAX_MESSAGE_BYTES = 128 * 1024
MAX_MESSAGE_CHANGES = 2000
# So few changes are worded once for all who are sent them.
_FEW = 100


class Waiting:
    """The changes of a domain that wait: the last of each key, in the order of revisions.

    What does not travel with its change, as it is large, does not wait either.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
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
        connection: str = "",
        *,
        max_changes: int = MAX_WAITING_CHANGES,
        max_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._turns = turns
        # What his stream comes by, as gRPC names it.
        self.connection = connection
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        # Messages, and changes that are due at this place. Those that were dropped stay here, where nobody
        # searches for them, and are not in `_waiting`.
        self._outbox: deque[pb.WatchResponse | Waiting] = deque()
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
        # The numbers of those that he has not confirmed in time, and whether there is none.
        self._overdue: set[int] = set()
        self._caught_up = asyncio.Event()
        self._caught_up.set()

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
            waiting = self._waiting[domain] = Waiting(domain)
            self._append(waiting)
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
            self._changes -= len(waiting.changes)
            self._bytes -= waiting.bytes
            # Its place stays, until it is its turn, and holds nothing.
            waiting.changes.clear()

    def overtake(self, domain: str, message: pb.WatchResponse) -> None:
        """Sends the message before all that waits, and not that the domain was subscribed before it."""
        self._outbox = deque(
            item for item in self._outbox if isinstance(item, Waiting) or item.subscribed.domain != domain
        )
        self._outbox.appendleft(message)
        if self._idle:
            self._turns.ask(self._turn)

    def missed(self, numbers: Iterable[int]) -> None:
        """He has let these revokes lapse."""
        self._overdue.update(numbers)
        if self._overdue:
            self._caught_up.clear()

    def confirmed(self, number: int) -> None:
        """He has confirmed a revoke, in time or late."""
        if write := self.revokes.get(number):
            write.confirmed(self, number)
        self._overdue.discard(number)
        if not self._overdue:
            self._caught_up.set()

    async def caught_up(self) -> None:
        """Returns when he has confirmed all that he has let lapse."""
        await self._caught_up.wait()

    def wake(self) -> None:
        """Makes `next` return, with or without messages."""
        self._turn.set()

    def close(self) -> None:
        """Has nothing sent any more, whatever is put in."""
        self._idle = False
        self._turns.leave(self._turn)

    async def next(self) -> Iterable[pb.WatchResponse]:
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
        domain = item.domain
        if self._waiting.get(domain) is not item:
            return []  # dropped
        del self._waiting[domain]
        self._changes -= len(item.changes)
        self._bytes -= item.bytes
        changes = tuple(item.changes.values())
        return (
            _shared_messages(domain, changes) if len(changes) <= _FEW else changes_messages(domain, changes)
        )

    def _append(self, item: pb.WatchResponse | Waiting) -> None:
        self._outbox.append(item)
        if self._idle:
            self._turns.ask(self._turn)


@functools.lru_cache(maxsize=1)
def _shared_messages(domain: str, changes: tuple[Change, ...]) -> Sequence[pb.WatchResponse]:
    """As changes_messages. Those who watch one domain get the same messages, one right after the other."""
    return tuple(changes_messages(domain, changes))


def changes_messages(domain: str, changes: Iterable[Change]) -> Iterator[pb.WatchResponse]:
    """Yields messages, bounded in bytes and in number, with the changes: each is made when it is its turn."""
    batch: list[pb.Change] = []
    size = 0
    for change in changes:
        batch.append(_message(change))
        size += _size(change)
        if size >= MAX_MESSAGE_BYTES or len(batch) >= MAX_MESSAGE_CHANGES:
            yield _changes(domain, batch)
            batch, size = [], 0
    if batch:
        yield _changes(domain, batch)


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
