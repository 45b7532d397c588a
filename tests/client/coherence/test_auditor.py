"""The auditor: finds reads that are stale for too long, and nothing else."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import neardict
from neardict import aio
from neardict._auditor import BOUND_SECONDS, Auditor
from served import Served

Until = Callable[[Callable[[], Any]], Any]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auditor(store: neardict.Store, clock: Clock) -> Auditor:
    return Auditor(store.changes, every=1.0, sample=5, clock=clock, choice=random.Random(7))


@pytest.fixture
def deaf(store: neardict.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the store lose changes without noticing, which is the mistake that an auditor is for."""
    monkeypatch.setattr(store.changes, "publish", lambda domain, change, but=None: None)


def work(store: neardict.Store, auditor: Auditor) -> int:
    """Does what is due, and returns how many look-ups that took."""
    probes = auditor.probes()
    for probe in probes:
        auditor.answered(probe, store.lookup(probe.cache.domain, probe.key))
    return len(probes)


def test_a_difference_that_lasts_beyond_the_bound_is_a_stale_read(
    store: neardict.Store,
    elsewhere: neardict.Store,
    auditor: Auditor,
    clock: Clock,
    domain: str,
    deaf: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    d = store.dict(domain, load=False)
    elsewhere.set_value(domain, "k", "secret")
    assert d["k"] == "secret"
    elsewhere.set_value(domain, "k", "another secret")
    assert auditor.pause() == 1.0
    clock.now += 1
    assert work(store, auditor) == 1
    assert d.stats.audited_reads == 1
    clock.now += BOUND_SECONDS - 0.1
    work(store, auditor)
    assert d.stats.stale_reads_total == 0
    clock.now += 0.2
    work(store, auditor)
    assert d.stats.stale_reads_total == 1
    assert f"the key 'k' of the domain {domain!r} shows revision" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("ends_by", ["change", "going stale", "leaving", "deletion"])
def test_a_difference_that_ends_within_the_bound_is_none(
    store: neardict.Store,
    elsewhere: neardict.Store,
    auditor: Auditor,
    clock: Clock,
    domain: str,
    deaf: None,
    ends_by: str,
) -> None:
    d = store.dict(domain, load=False, max_entries=1)
    elsewhere.set_value(domain, "k", 1)
    assert d["k"] == 1
    elsewhere.set_value(domain, "k", 2)
    clock.now += 1
    assert work(store, auditor) == 1
    if ends_by == "change":
        d.refresh("k")
    elif ends_by == "going stale":
        d.stale()
    elif ends_by == "leaving":
        d["other"] = 1
    else:
        del d["k"]
    clock.now += BOUND_SECONDS
    work(store, auditor)
    clock.now += BOUND_SECONDS
    work(store, auditor)
    assert d.stats.stale_reads_total == 0


def test_what_is_not_shown_as_fresh_is_not_audited(
    store: neardict.Store, auditor: Auditor, clock: Clock, domain: str
) -> None:
    asks = store.dict(domain)
    serves = store.dict(domain, on_disconnect="serve_stale")
    asks["k"] = 1
    for d in (asks, serves):
        d.stale()
    clock.now += 1
    assert work(store, auditor) == 0


def test_a_round_looks_up_the_sample_over_all_dicts(
    store: neardict.Store, auditor: Auditor, clock: Clock, domain: str
) -> None:
    dicts = [store.dict(f"{domain}.{n}") for n in range(20)]
    for d in dicts:
        d.update({str(n): n for n in range(20)})
    for _ in range(10):
        clock.now += 1
        assert work(store, auditor) == 5
    assert sum(d.stats.audited_reads for d in dicts) == 50
    assert sum(d.stats.stale_reads_total for d in dicts) == 0


def test_a_store_is_audited_until_it_is_closed(
    store: neardict.Store,
    elsewhere: neardict.Store,
    domain: str,
    until: Until,
    deaf: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neardict._auditor.BOUND_SECONDS", 0.2)
    d = store.dict(domain)
    d["k"] = 1
    store.audit(every=0.01, sample=3)
    until(lambda: d.stats.audited_reads > 3)
    elsewhere.set_value(domain, "k", 2)
    until(lambda: d.stats.stale_reads_total)
    with pytest.raises(neardict.InvalidArgumentError, match="audited already"):
        store.audit()
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "neardict audit"]


@pytest.mark.parametrize("settings", [{"every": 0.0}, {"sample": 0}])
def test_settings_that_mean_nothing_are_refused(store: neardict.Store, settings: dict[str, Any]) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="audit takes"):
        store.audit(**settings)


def test_without_a_stream_there_is_nothing_to_audit_or_to_tell(server: Served, domain: str) -> None:
    with neardict.connect(server.address, watch=False) as store:
        with pytest.raises(neardict.InvalidArgumentError, match="nothing is promised"):
            store.audit()
        with pytest.raises(neardict.CapabilityMissingError, match="watch=True"):
            store.dict(domain).on_change(print)


async def test_asyncio_has_it_too(
    aio_store: aio.Store, elsewhere: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neardict._auditor.BOUND_SECONDS", 0.2)
    d = await aio_store.dict(domain)
    await d.set("k", 1)
    monkeypatch.setattr(aio_store.changes, "publish", lambda domain, change, but=None: None)
    aio_store.audit(every=0.01, sample=3)
    await asyncio.to_thread(elsewhere.set_value, domain, "k", 2)
    async with asyncio.timeout(20):
        while not d.stats.stale_reads_total:
            await asyncio.sleep(0.01)
    assert d.stats.audited_reads > 0
