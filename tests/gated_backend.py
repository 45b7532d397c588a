"""A memory backend whose operations wait where a test wants them to: holds an interleaving still."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio

from neardict_server.app import serving
from neardict_server.backends import base
from neardict_server.backends.memory import MemoryBackend
from neardict_server.config import BackendConfig, Config
from wire import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest


class GatedBackend:
    """Takes operations one by one. Those of a held domain wait until it is released."""

    capabilities = frozenset({base.Capability.TTL})

    def __init__(self) -> None:
        self._memory = MemoryBackend()
        self._gates: dict[str, asyncio.Event] = {}
        # Every key that was asked for, in the order in which its operation began and ended.
        self.begun: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []
        self.cancelled: list[tuple[str, str]] = []
        # Is called with each key when it is asked for, and may raise.
        self.meet: Callable[[str], None] = lambda key: None

    def hold(self, domain: str) -> None:
        self._gates[domain] = asyncio.Event()

    def release(self, domain: str) -> None:
        self._gates.pop(domain).set()

    async def has_begun(self, domain: str, key: str) -> None:
        """Returns when an operation on the key is in the backend."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (domain, key) not in self.begun:
                await asyncio.sleep(0.001)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        await self._pass(domain, key)
        return await self._memory.get_value(domain, key)

    async def set_value(self, domain: str, key: str, value: base.Value, **more: Any) -> base.Written:
        await self._pass(domain, key)
        return await self._memory.set_value(domain, key, value, **more)

    async def delete_key(self, domain: str, key: str, **more: Any) -> base.Deleted:
        await self._pass(domain, key)
        return await self._memory.delete_key(domain, key, **more)

    def all_keys(self, domain: str, **more: Any) -> AsyncIterator[base.Page]:
        return self._memory.all_keys(domain, **more)

    async def close(self) -> None:
        await self._memory.close()

    async def _pass(self, domain: str, key: str) -> None:
        self.begun.append((domain, key))
        self.meet(key)
        try:
            if gate := self._gates.get(domain):
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append((domain, key))
            raise
        self.done.append((domain, key))


@asynccontextmanager
async def gated_server(
    monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[tuple[GatedBackend, grpc.aio.Channel]]:
    """Serves every domain from a gated backend, in this process."""
    backend = GatedBackend()

    async def opened(*_: object) -> GatedBackend:
        return backend

    monkeypatch.setattr(MemoryBackend, "open", opened)
    config = {
        "listen": "127.0.0.1:0",
        "backends": {"m": BackendConfig(implementation="memory")},
        "shutdown_grace_seconds": 1,
    }
    async with (
        serving(Config.model_validate(config | settings)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield backend, channel
