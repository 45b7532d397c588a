"""Two servers on one Redis, or on one Cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import redis

import neardict
from kinds import write_config
from served import Served

if TYPE_CHECKING:
    from pathlib import Path

    from redis_server import RedisServer


class Replicas:
    """Servers on one Redis, and a client of each."""

    def __init__(self, folder: Path, engine: RedisServer, *lines: str) -> None:
        """`lines` are added to the configuration."""
        self.engine = engine
        self._config = write_config(folder, "redis", engine)
        with self._config.open("a") as config:
            config.writelines(f"\n{line}" for line in lines)
        self._folder = folder
        self._opened = contextlib.ExitStack()
        self.servers: list[Served] = []
        self.stores: list[neardict.Store] = []
        self.admin: Any = self._opened.enter_context(redis.Redis(port=engine.port))
        for _ in range(2):
            self.servers.append(self._serve())
            self.stores.append(self._opened.enter_context(neardict.connect(self.servers[-1].address)))

    def restart(self, number: int) -> None:
        """Starts a server that was killed again, where it was."""
        self.servers[number] = self._serve("--listen", self.servers[number].address)

    def close(self) -> None:
        self._opened.close()

    def _serve(self, *options: str) -> Served:
        return self._opened.enter_context(
            Served("--config", self._config, "--data", self._folder / f"data{len(self.servers)}", *options)
        )
