"""The backend: carries the operations out in threads."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar, cast

from ...errors import BackendUnavailableError
from .. import base
from ..paging import pages
from .feed import JsonFeed
from .outlet import Outlet
from .store import JsonStore

# Writes mostly wait for the disk, which takes several at a time; reads must not wait behind them.
WRITERS = 8
READERS = 4
# For what looks at many files, so that a look-up of one waits behind none of them.
LISTERS = 2
_FEW_READS = 8

_Result = TypeVar("_Result")


class JsonBackend:
    """Files under one folder, owned by one process, by a lock in it. All work is done in threads."""

    class Settings(base.Settings):
        # The folder of the files; by default `json` in the server's data folder.
        root_dir: Path | None = None

    capabilities: frozenset[base.Capability] = frozenset({base.Capability.DURABLE, base.Capability.WATCH})

    @classmethod
    async def open(cls, settings: Settings, surroundings: base.Surroundings) -> Self:
        root = surroundings.data_dir / "json" if settings.root_dir is None else settings.root_dir
        outlet = Outlet(surroundings.publish)
        store = await asyncio.to_thread(
            JsonStore, root.absolute(), surroundings.clock, outlet.put, surroundings.name
        )
        return cls(store, JsonFeed(store, outlet, surroundings))

    def __init__(self, store: JsonStore, feed: JsonFeed) -> None:
        self._store = store
        self._feed = feed
        self._readers = ThreadPoolExecutor(READERS, "json-reader")
        self._listers = ThreadPoolExecutor(LISTERS, "json-lister")
        self._writers = ThreadPoolExecutor(WRITERS, "json-writer")
        # For the waits of batches, which run in one of the above: they must not wait for themselves.
        self._syncing = ThreadPoolExecutor(WRITERS, "json-syncing")
        self._closed = False

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        return await self._run(self._readers, functools.partial(self._store.get, domain, key))

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: base.Ttl = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        return cast("base.Written", await self._write(domain, base.Set(key, value, ttl, condition)))

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        return cast("base.Deleted", await self._write(domain, base.Delete(key, condition)))

    async def execute(self, domain: str, operations: Sequence[base.Operation]) -> list[base.Outcome]:
        threads = self._writers
        if all(isinstance(operation, base.Get) for operation in operations):
            threads = self._readers if len(operations) <= _FEW_READS else self._listers
        return await self._run(
            threads,
            functools.partial(self._store.execute, domain, operations, self._syncing.map),
        )

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        revision, names = await self._run(self._listers, functools.partial(self._store.listing, domain))
        found = self._store.found(domain, names, prefix=prefix, entries=entries)
        listed = pages(found, revision, entries=entries, total=0 if prefix else len(names))
        while page := await self._run(self._listers, lambda: next(listed, None)):
            yield _told_apart(page)

    async def position(self, domain: str, from_revision: int) -> base.Position:
        if self._closed:
            raise BackendUnavailableError("the backend is closing")
        return await self._feed.position(domain, from_revision)

    def certain(self, domain: str) -> bool:
        return self._feed.certain(domain)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._feed.close()
            await asyncio.to_thread(self._end)

    async def _write(self, domain: str, write: base.Set | base.Delete) -> base.Outcome:
        (outcome,) = await self._run(self._writers, functools.partial(self._store.execute, domain, (write,)))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self, threads: Executor, operation: Callable[[], _Result]) -> _Result:
        if self._closed:
            raise BackendUnavailableError("the backend is closing")
        # If the caller is cancelled, what has begun goes on in its thread, and ends with all locks released.
        return await asyncio.get_running_loop().run_in_executor(threads, operation)

    def _end(self) -> None:
        self._readers.shutdown()
        self._listers.shutdown()
        self._writers.shutdown()
        self._syncing.shutdown()
        self._store.close()


def _told_apart(page: base.Page) -> base.Page:
    unreadable = [entry.key for entry in page.entries if entry.revision == base.ABSENT]
    if not unreadable:
        return page
    readable = [entry for entry in page.entries if entry.revision != base.ABSENT]
    return page._replace(entries=readable, unreadable=unreadable)
