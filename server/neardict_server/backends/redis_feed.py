"""Follows the logs in Redis of those domains that somebody watches, and publishes what they bring.

Announcements wake it, and may be lost: it is the look, a few times a second, at the last revision of every
watched domain that proves that nothing was missed, or finds what was. All that is published comes
from the logs, in their order, also what was written through this server.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from ..errors import CorruptEntryError, StorageError
from . import base
from .redis_client import RedisClient
from .redis_layout import channel_of, places_of
from .redis_log import LogPage, RedisLog
from .redis_revisions import Revisions
from .redis_scripts import LOOK

logger = logging.getLogger(__name__)

# Between two looks at the revisions of all domains that are watched.
LOOK_SECONDS = 0.25
# For how long a look vouches for what it has seen, from when it was sent.
CERTAIN_SECONDS = 1.0
# How many domains one look takes; it keeps Redis from others for less than a millisecond.
LOOK_DOMAINS = 1000
# How many domains are read at the same time.
READERS = 8
# How many pages of missed changes are worth sending to one who comes back; more are read anew.
MISSED_PAGES = 20
# Between two attempts to listen for announcements, at most; without them, changes wait for a look.
LONGEST_PAUSE = 1.0


@dataclass
class _Followed:
    """A domain that is watched. All up to `last` has been published; None until that is known."""

    last: int | None = None
    # When, at the latest, it was true that `last` is the domain's revision.
    proven: float = float("-inf")
    # When the next entry expires.
    expires: float = float("inf")
    # Held by the first one who asks for the position, while others wait for him.
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)


class RedisFeed:
    """Owns two tasks, from `start` to `close`."""

    def __init__(
        self,
        client: RedisClient,
        prefix: str,
        revisions: Revisions,
        surroundings: base.Surroundings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._revisions = revisions
        self._log = RedisLog(client, prefix, revisions)
        self._publish = surroundings.publish
        self._lost = surroundings.lost
        self._watched = surroundings.watched
        self._clock = clock
        self._domains: dict[str, _Followed] = {}
        # Those of which there may be something to read, in this order.
        self._dirty: dict[str, None] = {}
        self._news = asyncio.Event()
        self._somebody = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        """Ends the tasks. May be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def position(self, domain: str, from_revision: int) -> base.Position:
        """As base.Feed says."""
        followed = self._domains.setdefault(domain, _Followed())
        self._somebody.set()
        async with followed.beginning:
            if followed.last is None:
                # All who asked before this were listening before it, and so miss nothing after it.
                sent = self._clock()
                page, missed = await self._read_missed(domain, from_revision)
                followed.last, followed.proven = page.revision, sent
                self._expect(followed, page)
                return base.Position(page.revision, missed)
        page, missed = await self._read_missed(domain, from_revision)
        return base.Position(page.revision, missed)

    def certain(self, domain: str) -> bool:
        """As base.Feed says."""
        followed = self._domains.get(domain)
        return followed is not None and self._clock() <= followed.proven + CERTAIN_SECONDS

    async def _read_missed(self, domain: str, revision: int) -> tuple[LogPage, list[base.Change] | None]:
        """Returns the last page that was read, and the changes after the revision if all are known."""
        if revision == 0:
            return await self._log.read(domain, None), None
        # Nothing had ever been written when the client was told 1: there is no 0 to come back to.
        page = await self._log.read(domain, 0 if revision == 1 else revision)
        missed = page.changes
        for _ in range(MISSED_PAGES):
            if missed is None or page.changes is None or not page.more:
                return page, None if page.changes is None else missed
            page = await self._log.read(domain, page.reached)
            missed += page.changes or ()
        return page, None

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
        """Proves that all has been published of the domains that are watched, or finds those to read."""
        watched = set(self._watched())
        for domain in [domain for domain in self._domains if domain not in watched]:
            del self._domains[domain]
        if not self._domains:
            self._somebody.clear()
        now = self._clock()
        for name, followed in self._domains.items():
            if followed.expires <= now:
                self._dirty[name] = None
        known = [
            (domain, followed) for domain, followed in self._domains.items() if followed.last is not None
        ]
        await _all(
            [
                self._look_at(known[start : start + LOOK_DOMAINS])
                for start in range(0, len(known), LOOK_DOMAINS)
            ]
        )

    async def _look_at(self, known: list[tuple[str, _Followed]]) -> None:
        sent = self._clock()
        keys = [places_of(self._prefix, domain).revision for domain, _ in known]
        reply: bytes = await self._client.run(LOOK, [places_of(self._prefix, "").entries + b":none", *keys])
        for (domain, followed), revision in zip(known, reply.split(b" "), strict=True):
            if revision == b"%d" % (followed.last or 0):
                followed.proven = sent
            else:
                self._dirty[domain] = None

    async def _read_some(self) -> None:
        """Reads a few of the domains of which there may be something to read, the first ones first."""
        some = list(itertools.islice(self._dirty, READERS))
        for domain in some:
            del self._dirty[domain]
        try:
            await _all([self._advance(domain) for domain in some])
        except BaseException:
            self._dirty.update(dict.fromkeys(some))
            raise

    async def _advance(self, domain: str) -> None:
        """Publishes the next changes of the domain."""
        followed = self._domains.get(domain)
        if followed is None or followed.last is None:
            return
        sent = self._clock()
        try:
            page = await self._log.read(domain, followed.last)
        except CorruptEntryError:
            # Who subscribes again is told what it is.
            self._lose(domain)
            return
        if self._domains.get(domain) is not followed:
            return
        if page.changes is None:
            self._lose(domain)
            return
        for change in page.changes:
            self._publish(domain, followed.last, change)
            followed.last = change.revision
        followed.last = page.reached
        self._expect(followed, page)
        if page.more or followed.expires <= self._clock():
            self._dirty[domain] = None
        if not page.more:
            followed.proven = sent

    def _lose(self, domain: str) -> None:
        """Gives the domain up: who watches it has to begin anew."""
        del self._domains[domain]
        self._lost(domain)

    def _expect(self, followed: _Followed, page: LogPage) -> None:
        followed.expires = float("inf") if page.expires_in is None else self._clock() + page.expires_in

    async def _listen(self) -> None:
        """Takes announcements, while somebody watches, until it is cancelled."""
        pause = LONGEST_PAUSE / 16
        while True:
            await self._somebody.wait()
            try:
                announcements = self._client.announcements(channel_of(self._prefix))
                async with contextlib.aclosing(announcements):
                    async for announcement in announcements:
                        pause = LONGEST_PAUSE / 16
                        if not self._somebody.is_set():
                            break
                        if announcement is not None:
                            self._heard(announcement)
            except StorageError:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # no secret
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception:
                logger.exception("listening to redis failed: trying again")
                await asyncio.sleep(LONGEST_PAUSE)

    def _heard(self, announcement: bytes) -> None:
        text, _, name = announcement.partition(b" ")
        try:
            revision, domain = int(text), name.decode()
        except ValueError:
            return  # of another program
        self._revisions.seen(revision)
        followed = self._domains.get(domain)
        if followed is not None and revision != followed.last:
            self._dirty[domain] = None
            self._news.set()


async def _all(work: list[Coroutine[None, None, None]]) -> None:
    """Runs all at the same time; raises one of their errors when all have ended."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
