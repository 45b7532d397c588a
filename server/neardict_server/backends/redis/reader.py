"""Reads the logs of the watched domains that are on one node, and proves that nothing was missed."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from ...errors import CorruptEntryError, StorageError
from .. import base
from .client import RedisClient
from .log import LogPage, RedisLog
from .scripts import LOOK
from .tasks import end

logger = logging.getLogger(__name__)

# Between two looks at the revisions of all domains that are watched.
LOOK_SECONDS = 0.25
# For how long a look vouches for what it has seen, from when it was sent.
CERTAIN_SECONDS = 1.0
# How many domains one look takes; it keeps Redis from others for less than a millisecond.
LOOK_DOMAINS = 1000
# How many domains are read at the same time.
READERS = 8


@dataclass
class Followed:
    """A domain that is watched. All up to `last` has been published; None until that is known."""

    name: str
    # Where its last revision is.
    revision: bytes
    # Where nothing is, in the same slot.
    nothing: bytes
    last: int | None = None
    # When, at the latest, it was true that `last` is the domain's revision.
    proven: float = float("-inf")
    # When the next entry expires.
    expires: float = float("inf")
    # Whether its log is being read.
    reading: bool = False
    # Whether it is not followed any more. If it is watched again, another takes its place.
    dropped: bool = False
    # Held by the first one who asks for the position, while others wait for him.
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)

    def expect(self, page: LogPage, now: float) -> None:
        """Takes notice of when the next entry expires."""
        self.expires = float("inf") if page.expires_in is None else now + page.expires_in


class Reader:
    """Owns a task, from construction to `close`."""

    def __init__(
        self,
        client: RedisClient,
        log: RedisLog,
        *,
        here: Callable[[], list[Followed]],
        publish: base.Publish,
        lose: Callable[[Followed], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`here` returns the domains that are on this node now, and are watched."""
        self._client = client
        self._log = log
        self._here = here
        self._publish = publish
        self._lose = lose
        self._clock = clock
        # Those of which there may be something to read, in this order.
        self._dirty: dict[str, Followed] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    def read(self, followed: Followed) -> None:
        """Has the domain's log read soon."""
        self._dirty[followed.name] = followed
        self._news.set()

    async def close(self) -> None:
        await end(self._task)

    async def _follow(self) -> None:
        """Publishes what is new, until it is cancelled."""
        look_at = self._clock()
        while True:
            if not self._dirty:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(look_at - self._clock()):
                        await self._news.wait()
            self._news.clear()
            try:
                if self._clock() >= look_at:
                    look_at = self._clock() + LOOK_SECONDS
                    await self._look()
                await self._read_some()
            except StorageError:
                # The client has logged it. Nobody vouches for the domains until it works again.
                await asyncio.sleep(LOOK_SECONDS)
            except Exception:
                logger.exception("following the changes in redis failed: trying again")
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Proves that all has been published of the domains that are here, or finds those to read."""
        now = self._clock()
        known = []
        for followed in self._here():
            if followed.last is None:
                continue
            if followed.expires <= now:
                self._dirty[followed.name] = followed
            known.append(followed)
        starts = range(0, len(known), LOOK_DOMAINS)
        await _all([self._look_at(known[start : start + LOOK_DOMAINS]) for start in starts])

    async def _look_at(self, group: list[Followed]) -> None:
        sent = self._clock()
        names = [followed.revision for followed in group]
        reply: bytes = await self._client.run(LOOK, [group[0].nothing], *names)
        for followed, revision in zip(group, reply.split(b" "), strict=True):
            if revision == b"%d" % (followed.last or 0):
                followed.proven = sent
            else:
                self._dirty[followed.name] = followed

    async def _read_some(self) -> None:
        """Reads a few of the domains of which there may be something to read, the first ones first."""
        some = list(itertools.islice(self._dirty.values(), READERS))
        for followed in some:
            del self._dirty[followed.name]
        await _all([self._advance(followed) for followed in some])

    async def _advance(self, followed: Followed) -> None:
        """Publishes the next changes of the domain. If that fails, a look will find that it is to be read."""
        if followed.last is None or followed.reading:
            return
        followed.reading = True
        sent = self._clock()
        try:
            page = await self._log.read(followed.name, followed.last)
        except CorruptEntryError:
            # Who subscribes again is told what it is.
            page = None
        finally:
            followed.reading = False
        if followed.dropped:
            return
        if page is None or page.changes is None:
            self._lose(followed)
            return
        for change in page.changes:
            self._publish(followed.name, followed.last, change)
            followed.last = change.revision
        followed.last = page.reached
        now = self._clock()
        followed.expect(page, now)
        if page.more or followed.expires <= now:
            self._dirty[followed.name] = followed
        if not page.more:
            followed.proven = sent


async def _all(work: list[Coroutine[None, None, None]]) -> None:
    """Runs all at the same time; raises one of their errors when all have ended."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
