"""What a dict counts."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import aio
from served import Served

Until = Callable[[Callable[[], Any]], Any]


def counted(before: neardict.Stats, after: neardict.Stats) -> dict[str, int]:
    """Returns which counts have changed, and by how much."""
    old, new = asdict(before), asdict(after)
    return {name: new[name] - old[name] for name in new if new[name] != old[name]}


def test_misses_fills_and_changes_are_counted_and_hits_are_not(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, until: Until
) -> None:
    elsewhere.set_many(domain, {"a": 1, "b": 2})
    d = store.dict(domain, load=False)
    start = d.stats
    assert [d["a"], d["a"], d["a"]] == [1, 1, 1]
    assert counted(start, d.stats) == {"misses": 1, "fills": 1, "entries": 1}
    assert "absent" not in d
    assert counted(start, d.stats) == {"misses": 2, "fills": 1, "entries": 1, "absences": 1}
    start = d.stats
    elsewhere.set_value(domain, "a", 10)
    elsewhere.set_value(domain, "b", 20)  # not held
    until(lambda: d.stats.changes == start.changes + 2)
    assert counted(start, d.stats) == {"changes": 2, "invalidations": 1}
    start = d.stats
    assert d.get_many(["a", "b", "absent"]) == {"a": 10, "b": 20}
    assert counted(start, d.stats) == {"misses": 1, "fills": 1, "entries": 1}


def test_a_mirror_fills_from_its_listing(store: neardict.Store, domain: str) -> None:
    store.set_many(domain, {str(n): n for n in range(7)})
    d = store.dict(domain)
    assert "absent" not in d
    assert d.stats == neardict.Stats(
        entries=7,
        absences=0,
        misses=0,
        fills=7,
        changes=0,
        invalidations=0,
        evictions=0,
        resyncs=0,
        resets=0,
        audited_reads=0,
        stale_reads_total=0,
    )


def test_a_resumed_stream_is_a_resync(tmp_path: Path, until: Until) -> None:
    with Served("--data", tmp_path) as served, neardict.connect(served.address) as store:
        d = store.dict("d")
        d["k"] = 1
        until(lambda: d.stats.changes == 1)
        start = d.stats
        served.kill()
        with Served("--data", tmp_path, "--listen", served.address):
            until(lambda: d.stats.resyncs)
            assert counted(start, d.stats) == {"resyncs": 1}
            assert dict.get(d, "k") == 1


def test_a_reset_is_counted(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address) as store:
        d = store.dict("d")
        d["k"] = 1
        own_server.kill()
        with Served(*own_server._args[3:-2], "--listen", own_server.address):
            until(lambda: d.stats.resyncs)
            assert d.stats.resets == 1


def test_a_snapshot_of_the_counts_does_not_change(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    stats = d.stats
    d["k"] = 1
    assert (stats.entries, d.stats.entries) == (0, 1)
    with pytest.raises(FrozenInstanceError):
        stats.entries = 5  # type: ignore[misc]  # as a user might


async def test_asyncio_counts_alike(aio_store: aio.Store, domain: str) -> None:
    await aio_store.set_value(domain, "a", 1)
    d = await aio_store.dict(domain, load=False)
    start = d.stats
    assert [await d.fetch("a"), await d.fetch("a"), await d.get_many(["a", "b"])] == [1, 1, {"a": 1}]
    assert counted(start, d.stats) == {"misses": 2, "fills": 1, "entries": 1, "absences": 1}
