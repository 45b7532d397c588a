"""Single operations of 64 tasks of one client, beside what else 64 tasks could call."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .. import echo, load
from ..backends import RedisServer, one
from ..clients import AsyncNear, opened
from ..filling import fill
from ..floors import Floor, Row, median_rate
from ..operations import AsyncEcho
from ..peers import redis
from ..peers.etcd import AsyncEtcd
from ..peers.etcd import running as etcd_running
from ..turns import Take, Turns, take_turns
from .size import Size

TASKS = 64


@dataclass(frozen=True)
class _Ours:
    near: AsyncNear
    runner: asyncio.Runner
    size: Size

    def beside(self, ours: load.AsyncCall, peer: load.AsyncCall) -> Turns:
        return take_turns(self._rate(ours), self._rate(peer), self.size.rounds)

    def _rate(self, call: load.AsyncCall) -> Take:
        def take() -> float:
            numbers = load.lasting(self.size.seconds)
            return self.runner.run(load.run_async(call, numbers, callers=TASKS)).rate

        return take


def memory_gets(size: Size) -> list[Row]:
    """Against what gRPC itself does for 64 tasks."""
    with (
        _ours("memory", size) as ours,
        echo.running() as address,
        opened(ours.runner, lambda: AsyncEcho(address)) as peer,
    ):
        turns = ours.beside(ours.near.get, peer.call)
    return [_row("async_gets", "gets on memory, async, 64 tasks", turns, "bare grpcio echo", Floor(15))]


def sqlite_sets(size: Size) -> list[Row]:
    """Both acknowledge what is on the disk."""
    with (
        etcd_running() as address,
        _ours("sqlite", size) as ours,
        opened(ours.runner, lambda: AsyncEtcd(address)) as peer,
    ):
        ours.runner.run(peer.check())
        turns = ours.beside(ours.near.set, peer.set)
    return [_row("async_sets", "durable sets on sqlite, async, 64 tasks", turns, "etcd puts", Floor(3))]


def redis_both(size: Size) -> list[Row]:
    """Through the service to the very Redis that the peer talks to itself."""
    with (
        RedisServer() as server,
        _ours("redis", size, server) as ours,
        opened(ours.runner, lambda: redis.AsyncRedis(server)) as peer,
    ):
        redis.fill(server)
        gets = ours.beside(ours.near.get, peer.get)
        sets = ours.beside(ours.near.set, peer.set)
    return [
        _row("async_redis_gets", "gets on redis, async, 64 tasks", gets, "redis.asyncio", Floor(2)),
        _row("async_redis_sets", "sets on redis, async, 64 tasks", sets, "redis.asyncio", Floor(1.5)),
    ]


@contextmanager
def _ours(backend: str, size: Size, server: RedisServer | None = None) -> Iterator[_Ours]:
    with one(backend, server) as served, asyncio.Runner() as runner:
        fill(served.address)
        with opened(runner, lambda: AsyncNear(served.address)) as near:
            yield _Ours(near, runner, size)


def _row(name: str, title: str, turns: Turns, peer: str, floor: Floor) -> Row:
    return Row(
        name, title, median_rate(turns.ours), f"{peer}: {median_rate(turns.peer)}", turns.ratios, floor
    )
