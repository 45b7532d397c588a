"""When a store's connection is renewed, and what becomes of the one before; without a network."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from neardict import _channel
from neardict._connection import Connection, Renewal
from neardict._reading import INSTANCE, Line
from neardict._session import PING_SECONDS


@pytest.fixture
def renewed() -> list[bool]:
    """How it was, each time: at once, or not."""
    return []


class Answered:
    """Stands for a call that has been answered."""

    def __init__(self, peer: str | None) -> None:
        self._peer = peer

    def initial_metadata(self) -> Any:
        return () if self._peer is None else ((INSTANCE, self._peer),)


@pytest.mark.parametrize(
    ("heard", "late", "expected"),
    [(20.0 - 2 * PING_SECONDS, 0.0, [True]), (10.0, 2.0, [False]), (20.0 - PING_SECONDS / 2, 0.0, [])],
    ids=["silent too", "noticed late", "heard of lately"],
)
def test_silence_renews_it_unless_something_came_on_it(
    renewed: list[bool], heard: float, late: float, expected: list[bool]
) -> None:
    Renewal(renewed.append, lambda: heard, lambda: 20.0, follows=True).silent(late)
    assert renewed == expected


@pytest.mark.parametrize(("follows", "expected"), [(True, [False]), (False, [])])
def test_another_peer_renews_it_if_both_have_the_same(
    renewed: list[bool], follows: bool, expected: list[bool]
) -> None:
    renewal = Renewal(renewed.append, lambda: 20.0, lambda: 20.0, follows=follows)
    line = Line(_channel.Settings("localhost:1"), renewal.came_up)
    for peer in ("a", "a", None, "b", "b"):
        line.answered(Answered(peer))
    assert renewed == expected


def test_silence_and_then_another_peer_renew_it_once(renewed: list[bool]) -> None:
    renewal = Renewal(renewed.append, lambda: 0.0, lambda: 20.0, follows=True)
    renewal.silent(0)
    renewal.came_up(moved=True)
    assert renewed == [True]
    renewal.came_up(moved=True)
    assert renewed == [True, False]


def test_what_cannot_be_renewed_is_logged(renewed: list[bool], caplog: pytest.LogCaptureFixture) -> None:
    def fail(at_once: bool) -> None:
        renewed.append(at_once)
        raise RuntimeError("can't start new thread")

    Renewal(fail, lambda: 0.0, lambda: 20.0, follows=True).silent(0)
    assert renewed == [True]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_what_is_replaced_is_closed_at_once_or_when_the_next_is() -> None:
    made: list[Any] = []

    def connect() -> Any:
        made.append(_channel.connect(_channel.Settings("localhost:1")))
        return made[-1]

    connection = Connection(connect)
    assert connection.renew(at_once=False) == []
    assert connection.renew(at_once=False) == [made[0]]
    assert connection.renew(at_once=True) == [made[1], made[2]]
    assert connection.channel is made[3]
    assert connection.close() == [made[3]]
    assert connection.renew(at_once=False) == [made[4]]
    for channel in made:
        channel.close()
