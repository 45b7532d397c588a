"""Asks a backend briefly, for the contract's tests."""

import asyncio
from typing import Any

import pytest

from ..backends import base
from ..backends.base import Backend, Capability

DEADLINE_SECONDS = 10.0


def require(backend: Backend, capability: Capability) -> None:
    if capability not in backend.capabilities:
        pytest.skip(f"this backend does not promise {capability.name}")


async def value_of(backend: Backend, domain: str, key: str) -> base.Value | None:
    entry = (await backend.get_value(domain, key)).entry
    return None if entry is None else entry.value


async def list_pages(
    backend: Backend, domain: str, *, prefix: str = "", entries: bool = False
) -> list[base.Page]:
    return [page async for page in backend.all_keys(domain, prefix=prefix, entries=entries)]


async def list_keys(backend: Backend, domain: str, *, prefix: str = "") -> list[str]:
    return [key for page in await list_pages(backend, domain, prefix=prefix) for key in page.keys]


async def list_entries(backend: Backend, domain: str) -> list[base.Entry]:
    return [entry for page in await list_pages(backend, domain, entries=True) for entry in page.entries]


async def gather_bounded(awaitables: list[Any]) -> list[Any]:
    """Awaits them, at most 64 at a time, which no backend refuses."""
    allowed = asyncio.Semaphore(64)

    async def one(awaitable: Any) -> Any:
        async with allowed:
            return await awaitable

    return await asyncio.gather(*map(one, awaitables))


async def until_absent(backend: Backend, domain: str, key: str) -> None:
    """Waits for an expiry, which only the passing of time brings."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await backend.get_value(domain, key)).entry is not None:
            await asyncio.sleep(0.005)
