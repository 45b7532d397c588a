"""Waiting for the messages of a stream, each for so long."""

import threading
import time
from collections.abc import Iterator
from typing import Self

import grpc
import pytest

from neardict._patience import patiently


class Call:
    """A call that brings so many messages at once, and then nothing until it is cancelled."""

    def __init__(self, messages: int, *, ends: bool) -> None:
        self._messages = iter(range(messages))
        self._ends = ends
        self._cancelled = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        for message in self._messages:
            return message
        if self._ends:
            raise StopIteration
        assert self._cancelled.wait(20)
        raise grpc.RpcError

    def cancel(self) -> None:
        self._cancelled.set()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_what_is_done_with_a_message_may_take_longer_than_the_next_one() -> None:
    taken = []
    for message in patiently(Call(3, ends=True), 0.05):
        time.sleep(0.15)
        taken.append(message)
    assert taken == [0, 1, 2]


def test_a_message_that_does_not_come_ends_the_wait() -> None:
    messages = patiently(Call(2, ends=False), 0.05)
    assert [next(messages), next(messages)] == [0, 1]
    with pytest.raises(TimeoutError):
        next(messages)


def test_a_listing_that_is_left_is_not_watched_any_more() -> None:
    messages = patiently(Call(2, ends=False), 3600)
    next(messages)
    messages.close()  # type: ignore[attr-defined]  # it is a generator
