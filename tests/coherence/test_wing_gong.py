"""The search finds an order where there is one, and none where there is none."""

import itertools
import math
import random
from dataclasses import replace

import pytest

from coherence.history import Kind, Op
from coherence.wing_gong import linearizable


def op(kind: Kind, value: str | None, begin: float, end: float) -> Op:
    return Op(kind, "a", "k", value, begin, end, outcome="ok" if end < math.inf else "unknown")


def test_reads_see_what_was_written_last() -> None:
    ops = [op("ask", None, 0, 1), op("set", "x", 2, 3), op("ask", "x", 4, 5), op("delete", None, 6, 7)]
    assert linearizable([*ops, op("ask", None, 8, 9)])
    assert not linearizable([*ops, op("ask", "x", 8, 9)])


def test_overlapping_writes_have_one_order_for_all_readers() -> None:
    writes = [op("set", "x", 0, 9), op("set", "y", 0, 9)]
    first, second = op("ask", "x", 1, 2), op("ask", "y", 3, 4)
    assert linearizable([*writes, first, second])
    assert not linearizable([*writes, first, second, op("ask", "x", 5, 6)])


def test_a_read_during_a_write_may_see_it_or_not_but_not_go_back() -> None:
    write = op("set", "x", 1, 9)
    assert linearizable([write, op("ask", None, 2, 3), op("ask", "x", 4, 5)])
    assert not linearizable([write, op("ask", "x", 2, 3), op("ask", None, 4, 5)])
    assert not linearizable([write, op("ask", None, 10, 11)])


def test_a_write_without_an_answer_may_take_effect_late_or_never() -> None:
    write = op("set", "x", 0, math.inf)
    assert linearizable([write, op("ask", None, 1, 2)])
    assert linearizable([write, op("ask", None, 1, 2), op("ask", "x", 3, 4)])
    assert not linearizable([write, op("ask", "x", 1, 2), op("ask", None, 3, 4)])


def test_a_value_goes_when_it_expires_unless_another_has_its_place() -> None:
    write, end = op("set", "x", 0, 1), op("expire", "x", 5, 6)
    assert linearizable([write, end, op("ask", "x", 4, 4.5), op("ask", None, 7, 8)])
    assert linearizable([write, end, op("ask", "x", 5.1, 5.2), op("ask", None, 5.3, 5.4)])
    assert not linearizable([write, end, op("ask", None, 4, 4.5)])
    assert not linearizable([write, end, op("ask", "x", 7, 8)])
    assert not linearizable([write, end, op("ask", None, 5.1, 5.2), op("ask", "x", 5.3, 5.4)])
    assert linearizable([write, end, op("set", "y", 2, 3), op("ask", "y", 7, 8)])
    assert not linearizable([write, end, op("set", "y", 2, 3), op("ask", None, 7, 8)])


def test_a_write_without_an_answer_may_expire_seen_or_not_and_take_what_was_there_with_it() -> None:
    before, write, end = op("set", "x", 0, 1), op("set", "y", 2, math.inf), op("expire", "y", 5, math.inf)
    assert linearizable([before, write, end, op("ask", "y", 3, 4), op("ask", None, 7, 8)])
    assert linearizable([before, write, end, op("ask", "x", 3, 4), op("ask", None, 7, 8)])
    assert linearizable([before, write, end, op("ask", "x", 7, 8)])
    assert not linearizable([before, write, end, op("ask", None, 3, 4)])
    assert not linearizable([before, write, end, op("ask", "y", 3, 4), op("ask", "x", 7, 8)])


def test_a_refused_write_has_no_effect() -> None:
    refused = replace(op("set", "x", 0, 1), outcome="refused")
    assert linearizable([refused, op("ask", None, 2, 3)])
    assert not linearizable([refused, op("ask", "x", 2, 3)])


def test_a_write_without_an_answer_that_has_an_end_takes_no_effect_after_it() -> None:
    write = replace(op("set", "x", 0, 3), outcome="unknown")
    assert linearizable([write, op("ask", None, 4, 5), op("ask", None, 6, 7)])
    assert linearizable([write, op("ask", "x", 4, 5), op("ask", "x", 6, 7)])
    assert not linearizable([write, op("ask", None, 4, 5), op("ask", "x", 6, 7)])


def test_an_older_copy_is_written_by_nobody() -> None:
    ops = [op("set", "x", 0, 1), op("set", "y", 2, 3), op("restore", "x", 4, 5)]
    assert linearizable([*ops, op("ask", "x", 6, 7)])
    assert not linearizable([*ops, op("ask", "y", 6, 7)])


def test_nothing_is_read_that_nobody_wrote() -> None:
    assert not linearizable([op("ask", "x", 0, 1)])


@pytest.mark.parametrize("seed", range(40))
def test_it_agrees_with_trying_all_orders(seed: int) -> None:
    randomness = random.Random(seed)
    ops = []
    for number in range(6):
        begin = randomness.uniform(0, 3)
        kind: Kind = randomness.choice(["set", "ask", "ask", "delete"])
        value = {"set": f"{number}", "delete": None}.get(kind, randomness.choice([None, *"012345"]))
        ops.append(op(kind, value, begin, begin + randomness.uniform(0.1, 2)))
    assert linearizable(ops) == any(map(explains, itertools.permutations(ops)))


def explains(order: tuple[Op, ...]) -> bool:
    """Returns whether the operations, in this order, keep to their times and see what they saw."""
    held = None
    for number, this in enumerate(order):
        if any(later.end <= this.begin for later in order[number:]):
            return False
        if this.kind != "ask":
            held = this.value
        elif this.value != held:
            return False
    return True
