"""Memory for values that are on their way: bounded in all, and for each connection."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# What is smaller needs no room: there are only so many calls of a connection at one time.
SMALL_BYTES = 16 * 1024


def unnoticed(_: int) -> None:
    """Takes no notice."""


class Room:
    """Room for so many bytes, for one direction. Connections go by their names. On the event loop alone.

    Invariant: what is held together is at most `total`, and by one connection at most `share`, and no more
    than it leaves to all others (a dynamic threshold: Choudhury and Hahne, INFOCOM 1996). But for `take`, and
    for what is larger than that by itself, which is let in when nothing else is held.

    Those who wait are let in in their order within a connection, and connections by turns, so that nobody
    waits behind what another connection asked for.
    """

    def __init__(self, total: int, share: int, held: Callable[[int], None] = unnoticed) -> None:
        """`held` is told by how many bytes more is held."""
        self._held = held
        self._total = total
        self._share = share
        self._used = 0
        self._used_by: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def used(self) -> int:
        """How many bytes are held."""
        return self._used

    def fits(self, connection: str, size: int) -> bool:
        """Returns whether so much more may be held."""
        own = self._used_by.get(connection, 0) + size
        used = self._used + size
        return not self._used or (own <= self._share and own <= self._total - used)

    def take(self, connection: str, size: int) -> None:
        """Holds so much, which is there already, whether it fits or not."""
        self._held(size)
        self._used += size
        self._used_by[connection] = self._used_by.get(connection, 0) + size

    def give(self, connection: str, size: int) -> None:
        """Holds so much less."""
        if not size:
            return
        self._held(-size)
        self._used -= size
        left = self._used_by[connection] - size
        if left:
            self._used_by[connection] = left
        else:
            del self._used_by[connection]
        if self._waiting:
            self._admit()

    def try_hold(self, connection: str, size: int) -> bool:
        """Holds so much if it fits, and nobody of the connection waits for his turn; returns whether."""
        if connection in self._waiting or not self.fits(connection, size):
            return False
        self.take(connection, size)
        return True

    async def hold(self, connection: str, size: int) -> None:
        """Waits until so much may be held, and holds it, until `give`."""
        if self.try_hold(connection, size):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(connection, deque()).append((size, turn))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give(connection, size)
            else:
                turn.cancel()
                # It may have stood before others that fit.
                self._admit()
            raise

    @asynccontextmanager
    async def of(self, connection: str, size: int) -> AsyncIterator[None]:
        """Holds so much while the context lasts, which begins when it fits."""
        await self.hold(connection, size)
        try:
            yield
        finally:
            self.give(connection, size)

    async def open(self, connection: str) -> None:
        """Returns when something fits, with nothing held."""
        while not self.fits(connection, 1):
            await self.hold(connection, 1)
            self.give(connection, 1)

    def _admit(self) -> None:
        """Lets in those that fit: the first of each connection, and again while there is one."""
        admitted = True
        while admitted:
            admitted = False
            for connection in list(self._waiting):
                queue = self._waiting[connection]
                while queue and queue[0][1].done():  # given up
                    queue.popleft()
                if queue and self.fits(connection, queue[0][0]):
                    size, turn = queue.popleft()
                    self.take(connection, size)
                    turn.set_result(None)
                    admitted = True
                    self._waiting.move_to_end(connection)
                if not queue:
                    del self._waiting[connection]
