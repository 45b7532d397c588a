"""Client processes on two servers that share a Redis, or a Cluster: one is killed, and nobody is wrong."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from coherence.checker import BOUND_SECONDS
from coherence.replicas import Replicas
from coherence.traps import eventually
from languages.mirrors import Mirror, python_mirror
from redis_cluster import RedisCluster
from redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOMAIN = "split"
STYLES = ["python", "asyncio"]


@pytest.fixture(params=["one redis", "cluster"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replicas]:
    with contextlib.ExitStack() as opened:
        if request.param == "cluster":
            cluster = opened.enter_context(RedisCluster())
            running = Replicas(tmp_path, cluster.primaries[0], "settings.cluster = true")
        else:
            running = Replicas(tmp_path, opened.enter_context(RedisServer(durable=True)))
        yield opened.enter_context(contextlib.closing(running))


@pytest.fixture
def split(replicas: Replicas) -> Iterator[list[list[Mirror]]]:
    """Client processes of each server."""
    with contextlib.ExitStack() as opened:
        yield [
            [opened.enter_context(python_mirror(style, server.address, DOMAIN)) for style in STYLES]
            for server in replicas.servers
        ]


def until_shown(mirrors: list[Mirror], entries: dict[str, Any]) -> None:
    shown = {"fresh": True, "entries": entries}
    for mirror in mirrors:
        eventually(lambda mirror=mirror: mirror.shows() == shown)  # type: ignore[misc]  # mypy#15459


def test_clients_of_both_show_each_others_writes_while_either_is_killed(
    replicas: Replicas, split: list[list[Mirror]]
) -> None:
    everybody = [*split[0], *split[1]]
    expected: dict[str, Any] = {}
    for number, mirror in enumerate(everybody):
        mirror.set("shared", number)
        mirror.set(f"by-{number}", [number])
        expected |= {"shared": number, f"by-{number}": [number]}
        until_shown(everybody, expected)
    for dead in (1, 0):
        alive = 1 - dead
        replicas.servers[dead].kill()
        killed = time.monotonic()
        for number, mirror in enumerate(split[alive]):
            mirror.set("meanwhile", [dead, number])
            expected["meanwhile"] = [dead, number]
            until_shown(split[alive], expected)
        split[alive][0].delete(f"by-{dead}")
        del expected[f"by-{dead}"]
        until_shown(split[alive], expected)
        for mirror in split[dead]:
            eventually(lambda mirror=mirror: not mirror.shows()["fresh"])  # type: ignore[misc]  # mypy#15459
        assert time.monotonic() < killed + 2 * BOUND_SECONDS
        replicas.restart(dead)
        until_shown(everybody, expected)
        split[dead][0].set("back", dead)
        expected["back"] = dead
        until_shown(everybody, expected)
