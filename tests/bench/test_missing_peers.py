"""A peer that is not there is named, with how to get it, and nothing else is kept from being measured."""

import shutil
from pathlib import Path

import pytest
from bench.floors import Floor, MissingPeerError, Row, Unmeasured
from bench.measures import table
from bench.measures.catalogue import Measure, Results, take
from bench.measures.size import QUICK, Size
from bench.peers import etcd, h2load, redis
from bench.peers.programs import wanted

from bench import echo

ROW = Row("x", "some measure", "2/s", "peer: 1/s", [2.0], Floor(3))


def missing(size: Size) -> list[Row]:
    raise MissingPeerError("etcd is not installed: apt install etcd-server")


def broken(size: Size) -> list[Row]:
    raise RuntimeError("it | ended\nand more")


def test_it_leaves_its_reason_in_its_place() -> None:
    measures = [Measure("a", missing), Measure("b", broken), Measure("c", lambda size: [ROW])]
    rows = take(measures, QUICK, lambda text: None)
    assert rows == [
        Unmeasured("a", "etcd is not installed: apt install etcd-server", absent=True),
        Unmeasured("b", "RuntimeError: it | ended\nand more", absent=False),
        ROW,
    ]
    lines = table.tables(Results(floors=rows)).splitlines()
    assert "| a | **not measured**: etcd is not installed: apt install etcd-server | | | | | |" in lines
    assert "| b | **not measured**: RuntimeError: it \\| ended | | | | | |" in lines
    assert "| some measure | 2/s | peer: 1/s | **2.00** | 2.00 to 2.00 | at least 3 | **no** |" in lines


def test_programs_that_are_not_on_the_path_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"etcd-server", "nghttp2-client"} <= set(wanted())
    with pytest.raises(MissingPeerError, match="apt install nghttp2-client"):
        h2load.program()
    with pytest.raises(MissingPeerError, match="apt install etcd-server"), etcd.running():
        pass


def test_a_redis_that_is_too_old_is_not_taken_for_the_client_side_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=7.2.9 sha=0\n")
    old.chmod(0o700)
    monkeypatch.setattr(redis, "binaries", lambda: iter([old]))
    with pytest.raises(MissingPeerError, match=r"Redis 7\.4"), redis.caching():
        pass


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_calls_that_are_not_answered_in_full_are_not_taken_for_calls() -> None:
    with echo.running() as address:
        assert h2load.rate(address, echo.METHOD, b"12345", 5, calls=100) > 0
        with pytest.raises(AssertionError, match="not every call"):
            h2load.rate(address, "/bench.Echo/NoSuchMethod", b"12345", 5, calls=100)
