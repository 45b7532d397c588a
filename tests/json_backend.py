"""Opens json backends in tests, and asks them briefly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import settings

from neardict_server.backends import base
from neardict_server.backends.json import JsonBackend

DOMAIN = "service_1.channel_7.health_bars"
# The same examples each time, however slow the machine is.
seeded = settings(derandomize=True, deadline=None)
FOLDER = Path("service_1", "channel_7", "health_bars")


@asynccontextmanager
async def opened(root: Path, *, clock: base.Clock = base.wall_clock) -> AsyncIterator[JsonBackend]:
    backend = await JsonBackend.open(JsonBackend.Settings(root_dir=root), base.Surroundings(root, clock))
    try:
        yield backend
    finally:
        await backend.close()


async def entry_of(backend: base.Backend, key: str, domain: str = DOMAIN) -> base.Entry:
    entry = (await backend.get_value(domain, key)).entry
    assert entry is not None, key
    return entry


async def is_absent(backend: base.Backend, key: str, domain: str = DOMAIN) -> bool:
    return (await backend.get_value(domain, key)).entry is None


async def keys_of(backend: base.Backend, domain: str = DOMAIN) -> list[str]:
    return sorted([key async for page in backend.all_keys(domain) for key in page.keys])


async def entries_of(backend: base.Backend, domain: str = DOMAIN) -> tuple[dict[str, base.Value], list[str]]:
    """Returns the values by key, and the keys that cannot be read."""
    found = [page async for page in backend.all_keys(domain, entries=True)]
    values = {entry.key: entry.value for page in found for entry in page.entries}
    return values, sorted(key for page in found for key in page.unreadable)
