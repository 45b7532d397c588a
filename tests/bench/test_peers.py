"""The peers run, and what is written of them is complete. How fast anything was is no matter for a test."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# One worker, so that it runs once; not that of the other parts, so that it runs beside them.
pytestmark = [pytest.mark.xdist_group("peers"), pytest.mark.timeout(240)]

NUMBER = r"[\d,.]+"
FIGURES = rf"[^|]+ \| [^|]* \| \*\*{NUMBER}\*\* \| {NUMBER} to {NUMBER} \|"
WITH_FLOOR = rf"{FIGURES} at (?:least|most) {NUMBER} \| (?:yes|\*\*no\*\*) \|$"
# Rows whose peer is a program, which may not be there.
PROGRAMS = {
    "durable sets on sqlite, async, 64 tasks": "etcd",
    "unary `GetValue` on memory, driven by h2load": "h2load",
}


@pytest.fixture(scope="module")
def peers(bench: Callable[[str], tuple[str, Path]]) -> tuple[str, Path]:
    return bench("peers")


@pytest.mark.parametrize(
    "title",
    [
        "`d[k]` hit, stream live, against a plain dict",
        "`d[k]` hit, times quicker than redis-py's client-side cache",
        "gets on memory, async, 64 tasks",
        *PROGRAMS,
        "gets on redis, async, 64 tasks",
        "sets on redis, async, 64 tasks",
        "gets on memory, sync, 16 threads",
        "uncached get on memory, sync, 1 thread, latency",
        "loading a mirror of 2,000 small entries, entries/s",
        "memory of a mirror of 2,000 small entries, once loaded",
        "memory of a mirror of 2,000 small entries, once every entry was read",
        "memory of a mirror of 2,000 small entries, at most, while it loads",
        "invalidation lag, p50, at 100 writes/s",
        *(
            f"cost of a {operation} on {backend} at 1,000 keys"
            for backend in ("memory", "sqlite", "redis")
            for operation in ("get", "set")
        ),
    ],
)
def test_each_measure_stands_beside_its_floor(peers: tuple[str, Path], title: str) -> None:
    program = PROGRAMS.get(title)
    rest = WITH_FLOOR
    if program is not None and shutil.which(program) is None:
        rest = rf"\*\*not measured\*\*: {program} is not installed: on Debian, apt install "
    assert re.search(rf"^\| {re.escape(title)} \| {rest}", peers[0], re.MULTILINE)


@pytest.mark.parametrize(
    "title",
    [
        "unary `GetValue` on memory, by stubs and grpc.aio, 64 tasks",
        "`d[k]` hit, times quicker than cachetools' LRUCache",
        "`d[k]` hit, times quicker than diskcache",
        "`d[k]` hit, times quicker than py-key-value on Redis",
        "`d[k]` hit, times quicker than the Moobius SDK's CachedDict",
        "gets on redis, sync, 1 thread",
        "sets on redis, sync, 1 thread",
        "`get_many` of 1,000 keys on redis, sync, keys/s",
        "`set_many` of 1,000 keys on redis, sync, keys/s",
    ],
)
def test_other_peers_stand_beside_ours(peers: tuple[str, Path], title: str) -> None:
    assert re.search(rf"^\| {re.escape(title)} \| {FIGURES}$", peers[0], re.MULTILINE)


def test_the_versions_of_the_peers_are_there(peers: tuple[str, Path]) -> None:
    names = ("cachetools", "diskcache", "py-key-value-aio", "moobius", "redis-server")
    programs = [name for name in ("etcd", "h2load") if shutil.which(name) is not None]
    for name in (*names, *programs):
        assert re.search(rf"^Peers: .*\b{name} \d+\.", peers[0], re.MULTILINE)


def test_the_cost_by_keys_is_drawn_and_tabled(peers: tuple[str, Path]) -> None:
    text, plots = peers
    assert "(performance/keys.svg)" in text
    assert [path.name for path in plots.iterdir()] == ["keys.svg"]
    for backend in ("memory", "sqlite", "redis"):
        for operation in ("get", "set"):
            line = rf"^\| {operation} on {backend} \| {NUMBER} \| {NUMBER} \|$"
            assert re.search(line, text, re.MULTILINE)


def test_sweeps_are_drawn_and_tabled(bench: Callable[[str], tuple[str, Path]]) -> None:
    text, plots = bench("sweeps")
    names = {"concurrency", "latency-16", "values", "watchers"}
    assert set(re.findall(r"\(performance/(.*)\.svg\)", text)) == names
    assert {path.name for path in plots.iterdir()} == {f"{name}.svg" for name in names}
    for title in ("neardict on memory", "neardict on redis", "bare grpcio echo", "redis.asyncio"):
        assert len(re.findall(rf"^\| {title} \|(?: {NUMBER} \|)+$", text, re.MULTILINE)) >= 2
    for title in ("neardict, get", "neardict, set", "redis.asyncio, get", "p50", "p99", "unary round trip"):
        assert re.search(rf"^\| {title} \| {NUMBER} \| {NUMBER} \|$", text, re.MULTILINE)
