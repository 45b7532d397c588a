"""Reads the feed of a json backend in the test's own process, and holds it to its promise as it comes."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from json_backend import DOMAIN, entries_of
from neardict_server.backends import base
from neardict_server.backends.json import JsonBackend
from waiting import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path


class Reader:
    """Everything that one backend has published, by domain, and which domains it has lost how often."""

    def __init__(self, *domains: str) -> None:
        self.watched = list(domains)
        self.changes: dict[str, list[base.Change]] = {}
        self.lost: list[str] = []
        self._revisions: dict[str, int] = {}

    def publish(self, domain: str, previous: int, change: base.Change) -> None:
        assert change.revision > previous >= self._revisions.get(domain, 0)
        self._revisions[domain] = change.revision
        self.changes.setdefault(domain, []).append(change)

    def of(self, key: str, domain: str = DOMAIN) -> list[base.Value | None]:
        """Returns the values that were published of a key, None for deletions."""
        return [change.value for change in self.changes.get(domain, []) if change.key == key]

    def state(self, up_to: int, domain: str = DOMAIN) -> dict[str, base.Value]:
        """Returns what one knows who has seen every change up to a revision."""
        changes = self.changes.get(domain, [])
        return applied({}, (change for change in changes if change.revision <= up_to))


def applied(state: dict[str, base.Value], changes: Iterable[base.Change]) -> dict[str, base.Value]:
    result = dict(state)
    for change in changes:
        if change.value is None:
            result.pop(change.key, None)
        else:
            result[change.key] = change.value
    return result


@asynccontextmanager
async def read(root: Path, *domains: str) -> AsyncIterator[tuple[JsonBackend, Reader]]:
    reader = Reader(*domains)
    surroundings = base.Surroundings(
        root, publish=reader.publish, lost=reader.lost.append, watched=lambda: reader.watched
    )
    backend = await JsonBackend.open(JsonBackend.Settings(root_dir=root), surroundings)
    try:
        yield backend, reader
    finally:
        await backend.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def contents(backend: JsonBackend, domain: str = DOMAIN) -> dict[str, base.Value]:
    values, _ = await entries_of(backend, domain)
    return values
