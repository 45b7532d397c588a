"""Room for values on their way: what is held, and who is let in when."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from neardict_server.room import Room

TOTAL, SHARE = 100, 40


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Holders:
    """Tasks that hold room until they are told to go, by their names: the connection, and a number."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.order: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def come(self, name: str, size: int) -> None:
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, size))

    async def _hold(self, name: str, size: int) -> None:
        async with self.room.of(name[0], size):
            self.order.append(name)
            await self.leave[name].wait()

    async def end(self) -> None:
        for leave in self.leave.values():
            leave.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def test_a_connection_waits_for_its_own_share_alone() -> None:
    holders = Holders(Room(TOTAL, SHARE))
    holders.come("a1", 30)
    holders.come("a2", 20)
    holders.come("a3", 5)
    holders.come("b1", 20)
    await settle()
    assert holders.order == ["a1", "b1"], "of one connection nobody passes"
    holders.leave["a1"].set()
    await settle()
    assert holders.order == ["a1", "b1", "a2", "a3"]
    await holders.end()
    assert holders.room.used == 0


async def test_one_that_gives_up_lets_those_behind_it_pass() -> None:
    holders = Holders(Room(TOTAL, SHARE))
    for name, size in (("a1", 30), ("a2", 20), ("a3", 5)):
        holders.come(name, size)
    await settle()
    holders.tasks["a2"].cancel()
    await settle()
    assert holders.order == ["a1", "a3"]
    await holders.end()
    assert holders.room.used == 0


async def test_one_that_is_cancelled_in_the_moment_it_is_let_in_holds_nothing() -> None:
    holders = Holders(Room(TOTAL, SHARE))
    holders.come("a1", 40)
    holders.come("a2", 40)
    await settle()
    holders.leave["a1"].set()
    await asyncio.sleep(0)
    holders.tasks["a2"].cancel()
    await holders.end()
    assert holders.room.used == 0


async def test_a_connection_holds_no_more_than_it_leaves_to_others() -> None:
    room = Room(TOTAL, SHARE)
    for connection, most in (("a", 40), ("b", 30), ("c", 15), ("d", 7), ("e", 4)):
        taken = 0
        while room.fits(connection, 1):
            room.take(connection, 1)
            taken += 1
        assert taken == most
    assert room.fits("f", 1), "there is always some for one who comes"


async def test_what_is_larger_than_all_is_let_in_alone() -> None:
    holders = Holders(Room(TOTAL, SHARE))
    holders.come("a1", 1)
    holders.come("b1", 1000)
    await settle()
    assert holders.order == ["a1"]
    holders.leave["a1"].set()
    await settle()
    assert holders.order == ["a1", "b1"]
    await holders.end()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60), st.booleans()), max_size=30))
def test_whatever_comes_and_goes(steps: list[tuple[str, int, bool]]) -> None:
    async def run() -> None:
        room = Room(TOTAL, SHARE)
        holders = Holders(room)
        sizes: dict[str, int] = {}
        for number, (connection, size, cancels) in enumerate(steps):
            name = f"{connection}{number}"
            sizes[name] = size
            holders.come(name, size)
            if cancels:
                holders.tasks[name].cancel()
            elif number % 3 == 2:
                list(holders.leave.values())[number // 2].set()
            await settle()
            held = [name for name in holders.order if not holders.tasks[name].done()]
            by = Counter[str]()
            for one in held:
                by[one[0]] += sizes[one]
            assert room.used == by.total()
            assert len(held) <= 1 or (by.total() <= TOTAL and max(by.values()) <= max(SHARE, 60))
        await holders.end()
        assert room.used == 0
        assert sorted(holders.order) == sorted(
            name for name, task in holders.tasks.items() if not task.cancelled()
        )

    asyncio.run(run())
