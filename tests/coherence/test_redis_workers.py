"""Clients of several workers on one port: some are killed, nobody is wrong, each write takes effect once."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest

import neardict
from coherence.checker import BOUND_SECONDS
from coherence.traps import eventually
from neardict.v1 import storage_pb2 as pb
from redis_server import RedisServer
from served import Served
from wire import Refusal, ask
from worker_processes import (
    CONNECTIONS,
    channel_of_each,
    connections,
    until_there_are,
    workers_of,
    write_shared,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc

DOMAIN = "together"
# What a server on redis vouches for may be a second old: see docs/redis.md.
REDIS_BOUND_SECONDS = BOUND_SECONDS + 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with (
        RedisServer(durable=True) as redis,
        Served("--config", write_shared(tmp_path, redis), "--workers", "3") as server,
    ):
        yield server


@contextlib.contextmanager
def dict_at_each(server: Served) -> Iterator[dict[int, neardict.CachedDict]]:
    """Yields a dict of a store of its own whose stream each worker serves, by the worker's process id."""
    workers = workers_of(server)
    found: dict[int, neardict.CachedDict] = {}
    with contextlib.ExitStack() as opened:
        for _ in range(CONNECTIONS):
            before = {pid: connections(pid, server) for pid in workers}
            store = opened.enter_context(neardict.connect(server.address))
            # Which makes no call yet, for which there is another connection.
            cache = store.dict(DOMAIN, load=False)
            eventually(lambda cache=cache: cache.fresh)  # type: ignore[misc]  # mypy#15459
            [pid] = [pid for pid in workers if connections(pid, server) - before[pid]]
            found.setdefault(pid, store.dict(DOMAIN))
            if len(found) == len(workers):
                yield found
                return
    raise AssertionError(f"no stream reaches {workers - found.keys()}")


def write(channel: grpc.Channel, key: str, text: str, request_id: str = "") -> pb.SetValueResponse:
    request = pb.SetValueRequest(domain=DOMAIN, key=key, value=pb.Value(json=text), request_id=request_id)
    answer = ask(channel, "SetValue", request)
    assert isinstance(answer, bytes), answer
    return pb.SetValueResponse.FromString(answer)


def until_shown(dicts: dict[int, neardict.CachedDict], entries: dict[str, Any]) -> None:
    for mirror in dicts.values():
        eventually(lambda mirror=mirror: mirror.fresh and mirror == entries)  # type: ignore[misc]  # mypy#15459


def test_a_write_through_any_worker_reaches_the_watchers_of_all(server: Served) -> None:
    with dict_at_each(server) as dicts, channel_of_each(server) as channels:
        expected: dict[str, Any] = {}
        for number, channel in enumerate(channels.values()):
            for key in ("shared", f"by-channel-{number}"):
                write(channel, key, str(number))
                expected[key] = number
            until_shown(dicts, expected)
        for number, mirror in enumerate(dicts.values()):
            mirror["shared"] = [number]
            del mirror[f"by-channel-{number}"]
            expected["shared"] = [number]
            del expected[f"by-channel-{number}"]
            until_shown(dicts, expected)


class Count:
    """A number that goes up in the store, written through some channels in turn."""

    def __init__(self, key: str, channels: list[grpc.Channel]) -> None:
        self._key = key
        self._channels = itertools.cycle(channels)
        self._ended = threading.Event()
        # When each number was acknowledged, 0 first.
        self._acknowledged: list[float] = []

    def write(self) -> int:
        """Writes until `end`; returns the last number. Raises what a write raises: none may fail."""
        for number in itertools.count():
            write(next(self._channels), self._key, str(number))
            self._acknowledged.append(time.monotonic())
            if self._ended.wait(0.005):
                return number
        raise AssertionError

    def read(self, mirror: neardict.CachedDict) -> int:
        """Reads until `end`; returns how often. Fails if it goes back, or is older than is promised."""
        last = -1
        for times in itertools.count(1):
            began = time.monotonic()
            seen = mirror.get(self._key, -1)
            assert seen >= last
            assert seen >= bisect.bisect_left(self._acknowledged, began - REDIS_BOUND_SECONDS) - 1
            last = seen
            if self._ended.wait(0.002):
                return times
        raise AssertionError

    def until_written(self, more: int) -> None:
        """Waits for so many more numbers."""
        target = len(self._acknowledged) + more
        eventually(lambda: len(self._acknowledged) >= target)

    def end(self) -> None:
        self._ended.set()


def test_while_workers_are_killed_dicts_stay_right_and_calls_on_others_go_on(server: Served) -> None:
    expected = {}
    with ThreadPoolExecutor() as threads, dict_at_each(server) as dicts:
        for number, victim in enumerate(list(dicts)):
            key = f"count-{number}"
            with channel_of_each(server) as channels:
                count = Count(key, [channel for pid, channel in channels.items() if pid != victim])
                writing = threads.submit(count.write)
                reading = [threads.submit(count.read, mirror) for mirror in dicts.values()]
                try:
                    count.until_written(20)
                    os.kill(victim, signal.SIGKILL)
                    until_there_are(3, server, without=victim)
                    count.until_written(20)
                finally:
                    count.end()
                expected[key] = writing.result()
                assert all(times.result() > 20 for times in reading)
            until_shown(dicts, expected)
        assert not workers_of(server) & dicts.keys()
        # Those who took their places tell too, and are told.
        with channel_of_each(server) as channels:
            for number, channel in enumerate(channels.values()):
                write(channel, "after", str(number))
                until_shown(dicts, expected | {"after": number})


def test_a_write_that_is_repeated_through_another_worker_takes_effect_once(server: Served) -> None:
    with channel_of_each(server) as channels:
        first, second, third = channels.values()
        written = write(first, "key", '"once"', "id")
        assert write(second, "key", '"once"', "id") == written
        write(second, "key", '"later"')
        assert write(third, "key", '"once"', "id") == written
        read = ask(first, "GetValue", pb.GetValueRequest(domain=DOMAIN, key="key"))
        assert isinstance(read, bytes)
        assert pb.GetValueResponse.FromString(read).entry.value.json == '"later"'
        delete = pb.DeleteKeyRequest(domain=DOMAIN, key="key", request_id="another id")
        assert len({ask(channel, "DeleteKey", delete) for channel in channels.values()}) == 1
        reused = pb.SetValueRequest(domain=DOMAIN, key="b", value=pb.Value(json="1"), request_id="id")
        assert isinstance(ask(third, "SetValue", reused), Refusal)


def test_increments_are_counted_once_each_though_workers_are_killed_under_them(server: Served) -> None:
    counters, times, between_kills = 6, 80, 120
    counted: list[str] = []

    def increment(mirror: neardict.CachedDict, key: str) -> None:
        mirror[key] = 0
        for _ in range(times):
            mirror.edit(key, lambda value: value + 1)
            counted.append(key)

    with ThreadPoolExecutor() as threads, neardict.connect(server.address) as store:
        mirror = store.dict(DOMAIN)
        running = [threads.submit(increment, mirror, f"counter-{number}") for number in range(counters)]
        for kill in range(1, counters * times // between_kills):
            while len(counted) < kill * between_kills:
                # One that has failed says why.
                wait(running, 0.01)
                assert not any(task.done() and task.exception() for task in running), running
            until_there_are(3, server)
            for pid in workers_of(server):
                if connections(pid, server):
                    os.kill(pid, signal.SIGKILL)
        for task in running:
            task.result()
        expected = {f"counter-{number}": times for number in range(counters)}
        eventually(lambda: mirror.fresh and mirror == expected)
        with neardict.connect(server.address) as another:
            assert another.dict(DOMAIN) == expected
