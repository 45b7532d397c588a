"""A program is told how far the loading of a mirror is."""

import logging
from collections.abc import AsyncIterator

import pytest

import neardict
from neardict import aio
from served import Served

Steps = list[tuple[int, int | None]]

# More than one page.
MANY = {f"key-{number}": number for number in range(2500)}


@pytest.fixture(params=["", "sqlite.", "files."])
def full(request: pytest.FixtureRequest, store: neardict.Store, domain: str) -> str:
    """A domain of some backend with many entries; fewer in files, each of which waits for the disk."""
    domain = f"{request.param}{domain}"
    store.set_many(domain, dict(list(MANY.items())[:60]) if request.param == "files." else MANY)
    return domain


@pytest.fixture
async def astore(server: Served) -> AsyncIterator[aio.Store]:
    async with aio.connect(server.address, watch=False) as astore:
        yield astore


def check(steps: Steps, count: int) -> None:
    """The steps go up to all there is, which is known from the first."""
    loaded = [step for step, _ in steps]
    assert loaded == sorted(loaded)
    assert loaded[0] > 0
    assert len(set(loaded)) >= (3 if count == len(MANY) else 1)
    assert {total for _, total in steps} == {count}
    assert steps[-1] == (count, count)


def test_a_mirror_tells_how_many_entries_it_has_loaded(store: neardict.Store, full: str) -> None:
    steps: Steps = []
    mirror = store.dict(full, on_progress=lambda *step: steps.append(step))
    check(steps, len(mirror))
    steps.clear()
    mirror.refresh(on_progress=lambda *step: steps.append(step))
    check(steps, len(mirror))


async def test_so_does_one_for_asyncio(astore: aio.Store, full: str) -> None:
    steps: Steps = []
    mirror = await astore.dict(full, on_progress=lambda *step: steps.append(step))
    check(steps, len(mirror))
    steps.clear()
    await mirror.refresh(on_progress=lambda *step: steps.append(step))
    check(steps, len(mirror))


def test_the_last_step_is_told_of_an_empty_domain_too(store: neardict.Store, domain: str) -> None:
    steps: Steps = []
    store.dict(domain, on_progress=lambda *step: steps.append(step))
    assert steps[-1] == (0, 0)


def test_a_callback_that_raises_is_logged_once_and_ends_nothing(
    store: neardict.Store, domain: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.set_value(domain, "k", "secret")

    def fail(loaded: int, total: int | None) -> None:
        raise ValueError("secret")

    with caplog.at_level(logging.ERROR, "neardict"):
        assert store.dict(domain, on_progress=fail) == {"k": "secret"}
    (record,) = caplog.records
    assert "on_progress raised ValueError at " in record.getMessage()
    assert "secret" not in caplog.text


def test_an_interrupt_in_a_callback_ends_the_loading(store: neardict.Store, domain: str) -> None:
    def interrupt(loaded: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.dict(domain, on_progress=interrupt)


async def test_what_can_tell_nothing_is_refused(
    store: neardict.Store, astore: aio.Store, domain: str
) -> None:
    async def waits(loaded: int, total: int | None) -> None:
        raise AssertionError("never called")

    with pytest.raises(neardict.InvalidArgumentError, match="load=False"):
        store.dict(domain, load=False, on_progress=print)
    with pytest.raises(neardict.InvalidArgumentError, match="load=False"):
        await astore.dict(domain, load=False, on_progress=print)
    with pytest.raises(neardict.InvalidArgumentError, match="plain function"):
        store.dict(domain, on_progress=waits)
