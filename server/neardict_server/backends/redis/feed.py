"""Follows the logs in Redis of those domains that somebody watches, and publishes what they bring.

Announcements wake it, and may be lost: it is the look, a few times a second, at the last revision of every
watched domain that proves that nothing was missed, or finds what was. All that is published comes
from the logs, in their order, also what was written through this server.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from functools import partial

from ...errors import StorageError
from .. import base
from .client import RedisClient
from .layout import channel_of, places_of
from .log import LogPage, RedisLog
from .reader import CERTAIN_SECONDS, LOOK_SECONDS, Followed, Reader
from .revisions import Revisions
from .tasks import end

logger = logging.getLogger(__name__)

# How many pages of missed changes are worth sending to one who comes back; more are read anew.
MISSED_PAGES = 20
# Between two attempts to listen for announcements, at most; without them, changes wait for a look.
LONGEST_PAUSE = 1.0


class RedisFeed:
    """Owns its tasks, from `start` to `close`."""

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
        self._domains: dict[str, Followed] = {}
        # One for each node that has some of them, so that one node that does not answer stops no other.
        self._readers: dict[str, Reader] = {}
        self._somebody = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._survey()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        """Ends the tasks. May be called twice."""
        tasks, self._tasks = self._tasks, []
        await end(*tasks)
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.close()

    async def position(self, domain: str, from_revision: int) -> base.Position:
        """As base.Feed says."""
        followed = self._domains.get(domain)
        if followed is None:
            places = places_of(self._prefix, domain)
            followed = self._domains[domain] = Followed(domain, places.revision, places.entries + b":none")
        self._somebody.set()
        async with followed.beginning:
            if followed.last is None:
                # All who asked before this were listening before it, and so miss nothing after it.
                sent = self._clock()
                page, missed = await self._read_missed(domain, from_revision)
                followed.last, followed.proven = page.revision, sent
                followed.expect(page, self._clock())
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

    async def _survey(self) -> None:
        """Sees to it that what is watched, and nothing else, is read where it is, until it is cancelled."""
        while True:
            await self._somebody.wait()
            watched = set(self._watched())
            for domain in [domain for domain in self._domains if domain not in watched]:
                self._domains.pop(domain).dropped = True
            nodes = {self._client.nodes.place_of(followed.revision) for followed in self._domains.values()}
            for node in nodes - self._readers.keys():
                self._readers[node] = Reader(
                    self._client,
                    self._log,
                    here=partial(self._on, node),
                    publish=self._publish,
                    lose=self._lose,
                    clock=self._clock,
                )
            for node in self._readers.keys() - nodes:
                await self._readers.pop(node).close()
            if not self._domains:
                self._somebody.clear()
            await asyncio.sleep(LOOK_SECONDS)

    def _on(self, node: str) -> list[Followed]:
        place_of = self._client.nodes.place_of
        return [followed for followed in self._domains.values() if place_of(followed.revision) == node]

    def _lose(self, followed: Followed) -> None:
        """Gives the domain up: who watches it has to begin anew."""
        followed.dropped = True
        del self._domains[followed.name]
        self._lost(followed.name)

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
            reader = self._readers.get(self._client.nodes.place_of(followed.revision))
            if reader is not None:
                reader.read(followed)
