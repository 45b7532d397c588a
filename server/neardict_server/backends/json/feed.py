"""Keeps those who watch domains up to date with the files, whoever writes them."""

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...errors import StorageError
from .. import base
from .names import file_name
from .outlet import Outlet
from .store import JsonStore, UnknownKeyError
from .watch import Noticed, Watch

logger = logging.getLogger(__name__)

# In seconds. An editor's truncating, writing and renaming are looked at together.
SETTLE = 0.01
# So long a file may hold no value before that is told: it is probably being written.
PATIENCE = 0.1
# What is behind by more is not vouched for.
LATE = 1.0
# How often it is looked after what nobody tells.
CHECK = 1.0
# So long a domain is followed after its last watcher has gone, who may have lost his stream only.
LINGER = 60.0
# So many files are looked at in one go.
BATCH = 256
# A folder that comes with more files is read anew by clients rather than told file by file.
MANY = 1000

_Place = tuple[str, str]
_Result = TypeVar("_Result")


class JsonFeed:
    """Follows domains from their first subscription on. Used on the event loop; waits are in one thread.

    Invariant: whatever happens to the files of a domain that is certain has been published, or is within
    LATE, in the order of revisions and once; or the domain's watchers have been told that it was lost.
    """

    def __init__(self, store: JsonStore, outlet: Outlet, surroundings: base.Surroundings) -> None:
        self._store = store
        self._outlet = outlet
        self._surroundings = surroundings
        self._watch = Watch(store.tree)
        # All that the watch does, and looking at files that were touched.
        self._thread = ThreadPoolExecutor(1, "json-watcher")
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        # Of files that others have touched, whether they were gone; and until when they may hold no value.
        self._touched: dict[_Place, bool] = {}
        self._doubtful: dict[_Place, float] = {}
        # Since when it has not been up to date.
        self._behind: float | None = None
        # Domains that the watch knows, and of those the ones that it cannot watch now.
        self._followed: set[str] = set()
        self._failed: set[str] = set()
        # Since when domains have had no watchers.
        self._unwatched: dict[str, float] = {}
        self._checked = 0.0

    async def position(self, domain: str, from_revision: int) -> base.Position:
        """As base.Feed says. Changes are remembered while the domain is followed, and in one run."""
        if not self._outlet.has(domain):
            self._outlet.lay(domain)
            task = asyncio.create_task(self._follow(domain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await self._outlet.position(domain, from_revision)

    def certain(self, domain: str) -> bool:
        """As base.Feed says, to within LATE."""
        now = asyncio.get_running_loop().time()
        return (
            self._outlet.is_open(domain)
            and self._runner is not None
            and not self._runner.done()
            and domain not in self._failed
            and (self._behind is None or now - self._behind < LATE)
            and not self._store.revisions.late(domain, LATE)
        )

    async def close(self) -> None:
        """Ends following, after the changes under way."""
        for domain in self._outlet.domains():
            self._outlet.cut(domain)
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._in_thread(self._watch.close)
        self._thread.shutdown()

    async def _follow(self, domain: str) -> None:
        try:
            # What happens from here on is noticed; then comes the mark, since which all is published.
            if not await self._in_thread(functools.partial(self._watch.follow, domain)):
                self._failed.add(domain)
            self._followed.add(domain)
            if self._runner is None:
                self._runner = asyncio.create_task(self._run())
            await self._in_thread(functools.partial(self._mark, domain))
        except Exception:
            logger.exception("the domain %r cannot be followed", domain)
            if self._outlet.has(domain):
                self._outlet.cut(domain)

    def _mark(self, domain: str) -> None:
        self._store.follow(domain, empty=self._watch.is_absent(domain))

    async def _run(self) -> None:
        while True:
            try:
                await self._wait()
                await self._round()
            except Exception:
                logger.exception("files could not be followed: who watches them has to read them anew")
                await self._lose(set(self._followed))
                # So that what goes wrong each time does not keep all busy.
                await asyncio.sleep(CHECK)

    async def _round(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._behind is None:
            self._behind = now
        await self._take(await self._in_thread(self._watch.look))
        if now >= self._checked + CHECK:
            self._checked = now
            await self._take(await self._in_thread(self._watch.retry))
            await self._leave()
        await self._look()
        if not self._touched:
            self._behind = None

    async def _wait(self) -> None:
        """Returns when there is something to do."""
        if self._touched:
            return
        loop = asyncio.get_running_loop()
        seconds = CHECK
        if self._doubtful:
            seconds = min(seconds, max(0.0, min(self._doubtful.values()) - loop.time()))
        descriptor = self._watch.fileno()
        if descriptor is None:
            await asyncio.sleep(seconds)
            return
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        try:
            async with asyncio.timeout(seconds):
                await readable.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(descriptor)
        self._behind = loop.time()
        await asyncio.sleep(SETTLE)

    async def _take(self, noticed: Noticed) -> None:
        self._failed |= noticed.failed
        await self._lose(noticed.lost)
        self._failed -= noticed.lost - noticed.failed
        for domain in noticed.appeared:
            if self._outlet.is_open(domain):
                await self._compare(domain)
        for place, gone in noticed.files.items():
            self._touched[place] = self._touched.get(place, False) or gone

    async def _compare(self, domain: str) -> None:
        """Looks at all files of a folder that was not there, and at those that have been there meanwhile."""
        keys = self._outlet.changed(domain)
        try:
            _, names = await self._in_thread(functools.partial(self._store.listing, domain))
        except StorageError:
            keys, names = None, []
        if keys is None or len(keys) + len(names) > MANY:
            await self._lose([domain])
            return
        for name in (*names, *map(file_name, keys)):
            self._touched.setdefault((domain, name), False)

    async def _look(self) -> None:
        """Looks at files that were touched, as many as are looked at in one go."""
        now = asyncio.get_running_loop().time()
        for place, until in self._doubtful.items():
            if until <= now:
                self._touched.setdefault(place, False)
        batch = {place: self._touched.pop(place) for place in list(itertools.islice(self._touched, BATCH))}
        patient = {place for place in batch if self._doubtful.get(place, now + PATIENCE) > now}
        if not batch:
            return
        half, lost = await self._in_thread(functools.partial(self._notice, batch, patient))
        for place in batch:
            if place in half:
                self._doubtful.setdefault(place, now + PATIENCE)
            else:
                self._doubtful.pop(place, None)
        await self._lose(lost)

    def _notice(self, batch: dict[_Place, bool], patient: set[_Place]) -> tuple[set[_Place], set[str]]:
        """Returns which files are only half there, and which domains were lost."""
        half = set()
        lost = set()
        for place, gone in batch.items():
            domain, name = place
            try:
                if not self._store.notice(domain, name, gone=gone, patient=place in patient):
                    half.add(place)
            except (StorageError, UnknownKeyError):
                lost.add(domain)
        return half, lost

    async def _lose(self, domains: Iterable[str]) -> None:
        """Tells that not everything was noticed, and begins anew."""
        for domain in domains:
            if domain in self._followed:
                self._outlet.lay(domain)
                self._surroundings.lost(domain)
                await self._in_thread(functools.partial(self._mark, domain))

    async def _leave(self) -> None:
        """Ends following what nobody has watched for a while."""
        now = asyncio.get_running_loop().time()
        watched = set(self._surroundings.watched())
        self._unwatched = {
            domain: self._unwatched.get(domain, now)
            for domain in self._outlet.domains()
            if domain not in watched and self._outlet.is_open(domain)
        }
        for domain, since in list(self._unwatched.items()):
            if now - since >= LINGER:
                # First, so that a subscription meanwhile follows it anew, which the thread does after this.
                self._outlet.cut(domain)
                self._followed.discard(domain)
                self._failed.discard(domain)
                await self._in_thread(functools.partial(self._forget, domain))

    def _forget(self, domain: str) -> None:
        self._store.revisions.unfollow(domain)
        self._watch.unfollow(domain)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
