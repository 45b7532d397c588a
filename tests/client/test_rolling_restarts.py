"""Servers that are stopped and started again under load, as for a new version: no call fails."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import aio
from redis_server import RedisServer
from served import Served

from .gate import DEADLINE
from .test_outages import unused_address

WRITERS = 4
SHARED = """
default = "shared"
[backends.shared]
implementation = "redis"
settings.port = {port}
"""


class Load:
    """Reads and writes of both clients, with the default timeout, until `stop`; `failures` is what failed.

    Each key is counted up if nobody else has done it: what is applied twice would be a conflict.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._stopped = threading.Event()
        self.failures: list[BaseException] = []
        self.done = [0] * 2 * WRITERS
        # The calls that took longest.
        self.longest = 0.0
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._sync, self._aio)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def go_on(self) -> None:
        """Returns when every writer has done something more, or something has failed."""
        before = list(self.done)
        deadline = time.monotonic() + 3 * DEADLINE
        while not self.failures and any(now < then + 3 for now, then in zip(self.done, before, strict=True)):
            assert time.monotonic() < deadline, "a call hangs"
            time.sleep(0.01)

    def _run(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    def _sync(self) -> None:
        with neardict.connect(self._target) as store, contextlib.ExitStack() as ending:
            mirror = store.dict("rolling")
            many = {f"many {number}": number for number in range(50)}
            threads = [
                threading.Thread(
                    target=self._run, args=(lambda n=number: self._count(store, mirror, n, many),)
                )
                for number in range(WRITERS)
            ]
            for thread in threads:
                thread.start()
                ending.callback(thread.join)

    def _count(self, store: neardict.Store, mirror: neardict.CachedDict, name: int, many: Any) -> None:
        revision = None
        for number in itertools.count(1):
            if self._stopped.is_set():
                return
            began = time.monotonic()
            revision = store.set_value(
                "rolling", f"sync {name}", number, if_revision=revision, if_absent=revision is None
            )
            assert mirror[f"sync {name}"] == number
            mirror.update(many)
            assert mirror.get_many(many) == many
            assert f"sync {name}" in set(store.all_keys("rolling", prefix="sync"))
            assert store.server_info().version
            self._took(name, began)

    def _aio(self) -> None:
        async def main() -> None:
            async with aio.connect(self._target) as store:
                cache = await store.dict("rolling", load=False)
                await asyncio.gather(*(self._count_aio(store, cache, number) for number in range(WRITERS)))

        asyncio.run(main())

    async def _count_aio(self, store: aio.Store, cache: aio.CachedDict, name: int) -> None:
        revision = None
        for number in itertools.count(1):
            if self._stopped.is_set():
                return
            began = time.monotonic()
            revision = await store.set_value(
                "rolling", f"aio {name}", number, if_revision=revision, if_absent=revision is None
            )
            assert await cache.fetch(f"aio {name}") == number
            assert f"aio {name}" in {key async for key in store.all_keys("rolling", prefix="aio")}
            assert (await store.server_info()).version
            self._took(WRITERS + name, began)

    def _took(self, name: int, began: float) -> None:
        self.longest = max(self.longest, time.monotonic() - began)
        self.done[name] += 1


def roll(servers: Sequence[Served], target: str, times: int) -> None:
    with Load(target) as load:
        for _ in range(times):
            for server in servers:
                load.go_on()
                assert server.stop() == 0
                server.start()
        load.go_on()
    assert load.failures == []


def test_a_server_that_is_restarted_again_and_again_under_load_fails_no_call(tmp_path: Path) -> None:
    address = unused_address()
    with Served("--listen", address, "--data", tmp_path) as server:
        roll([server], address, 3)


@pytest.fixture
def engine() -> Iterator[RedisServer]:
    with RedisServer(durable=True) as engine:
        yield engine


def test_two_servers_that_are_restarted_in_turn_under_load_fail_no_call(
    engine: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "neardict.toml").write_text(SHARED.format(port=engine.port))
    addresses = [unused_address(), unused_address()]
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                Served(
                    *("--config", tmp_path / "neardict.toml"), *("--data", tmp_path / f"{number}"),
                    *("--listen", address),
                )
            )
            for number, address in enumerate(addresses)
        ]  # fmt: skip
        roll(servers, f"ipv4:{','.join(addresses)}", 2)


def test_a_redis_that_is_restarted_under_load_fails_no_call_and_one_that_is_down_is_named(
    engine: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "neardict.toml").write_text(SHARED.format(port=engine.port))
    with Served("--config", tmp_path / "neardict.toml", "--data", tmp_path) as server:
        with Load(server.address) as load:
            for _ in range(2):
                load.go_on()
                engine.restart()
            load.go_on()
        assert load.failures == []
        engine.stop()
        with neardict.connect(server.address) as store:
            for call in (
                lambda: store.set_value("d", "k", 1, timeout=1),
                lambda: list(store.all_keys("d", timeout=1)),
            ):
                with pytest.raises(
                    neardict.UnavailableError, match=r"^Redis \(backend `shared`\) is down"
                ) as told:
                    call()
                assert told.value.reason == "BACKEND_UNAVAILABLE"
