"""memory: what it holds is in proportion to what is stored."""

from model import Clock
from neardict_server.backends.memory import MIN_EXPIRIES, MemoryBackend

SECOND = 1_000_000


async def test_renewing_an_entry_without_end_takes_no_more_memory() -> None:
    clock = Clock()
    backend = MemoryBackend(clock)
    for _ in range(20_000):
        clock.now += 1
        await backend.set_value("sessions", "one", "1", ttl=3600 * SECOND)
    assert len(backend._expiries) <= MIN_EXPIRIES
    clock.now += 3600 * SECOND - 1
    assert (await backend.get_value("sessions", "one")).entry is not None
    clock.now += 1
    assert (await backend.get_value("sessions", "one")).entry is None


async def test_many_entries_that_expire_all_do() -> None:
    clock = Clock()
    backend = MemoryBackend(clock)
    for number in range(5_000):
        await backend.set_value("d", str(number), "1", ttl=(1 + number % 10) * SECOND)
        await backend.set_value("d", str(number), "1", ttl=(1 + number % 7) * SECOND)
    for seconds in range(1, 8):
        clock.now += SECOND
        keys = [key async for page in backend.all_keys("d") for key in page.keys]
        assert len(keys) == sum(1 for number in range(5_000) if 1 + number % 7 > seconds)
    await backend.set_value("d", "last", "1")
    assert list(backend._domains["d"].entries) == ["last"]


async def test_a_process_whose_clock_went_back_knows_nothing_of_what_was_seen_before() -> None:
    clock = Clock()
    seen = (await MemoryBackend(clock).set_value("d", "k", "1")).revision
    clock.now -= 10 * SECOND
    after = MemoryBackend(clock)
    assert (await after.position("d", seen)).missed is None
    await after.set_value("d", "k", "2")
    assert (await after.position("d", seen)).missed is None
