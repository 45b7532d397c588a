"""Streams send a few at a time, and one whose client does not read keeps nobody waiting."""

from __future__ import annotations

import asyncio

from neardict_server.changes.turns import Turns

FOREVER = 3600.0


def going(turns: list[asyncio.Event]) -> list[int]:
    return [number for number, turn in enumerate(turns) if turn.is_set()]


def asked(turns: Turns, count: int) -> list[asyncio.Event]:
    events = [asyncio.Event() for _ in range(count)]
    for event in events:
        turns.ask(event)
    return events


async def test_so_many_go_on_and_the_next_when_one_is_done() -> None:
    turns = Turns(at_once=2, patience=FOREVER)
    events = asked(turns, 4)
    assert going(events) == [0, 1]
    turns.done(events[1])
    assert going(events) == [0, 1, 2]
    turns.done(events[1])  # his turn is over already
    assert going(events) == [0, 1, 2]


async def test_one_who_takes_long_loses_his_turn() -> None:
    turns = Turns(at_once=1, patience=0.0)
    events = asked(turns, 3)
    await asyncio.wait_for(events[2].wait(), 10)
    assert going(events) == [0, 1, 2]


async def test_one_who_has_lost_his_turn_ends_nobody_elses() -> None:
    turns = Turns(at_once=1, patience=0.0)
    slow, quick = asked(turns, 2)
    await asyncio.wait_for(quick.wait(), 10)
    turns.done(slow)
    assert turns.sending == 1


async def test_a_stream_that_ends_makes_room_and_asks_no_more() -> None:
    turns = Turns(at_once=1, patience=FOREVER)
    events = asked(turns, 3)
    turns.leave(events[1])
    turns.leave(events[0])
    assert going(events) == [0, 2]


async def test_who_asks_twice_has_one_turn() -> None:
    turns = Turns(at_once=2, patience=FOREVER)
    events = asked(turns, 1)
    turns.ask(events[0])
    events += asked(turns, 1)
    assert going(events) == [0, 1]
