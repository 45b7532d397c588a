"""Calls that other threads make: each message waited for, each call given up, and no thread left."""

import gc
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import grpc
import pytest

from neardict._call_threads import CallThreads
from neardict._statuses import Failure

from .gate import DEADLINE
from .threads import until


class Call:
    """A stream that brings so many messages at once, and ends, or brings nothing until it is cancelled."""

    def __init__(self, messages: int, *, ends: bool) -> None:
        self._messages = iter(range(messages))
        self._ends = ends
        self.taken = 0
        self.cancelled = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        for message in self._messages:
            self.taken += 1
            return message
        if self._ends:
            raise StopIteration
        assert self.cancelled.wait(DEADLINE)
        raise Failure(grpc.StatusCode.CANCELLED)

    def cancel(self) -> None:
        self.cancelled.set()


class Future:
    """The future of a call that is not answered until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._callbacks: list[Any] = []

    def add_done_callback(self, callback: Any) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        self.cancelled.set()
        for callback in self._callbacks:
            callback(self)

    def exception(self) -> Exception:
        raise grpc.FutureCancelledError


@pytest.fixture
def calls() -> Iterator[CallThreads]:
    before = set(threading.enumerate())
    calls = CallThreads()
    yield calls
    calls.close()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "neardict calls"]


def test_what_is_done_with_a_message_may_take_longer_than_the_next_one(calls: CallThreads) -> None:
    taken = []
    for message in calls.stream(lambda: Call(3, ends=True), idle=0.3):
        time.sleep(0.4)
        taken.append(message)
    assert taken == [0, 1, 2]


def test_a_message_that_does_not_come_ends_the_wait_and_the_call(calls: CallThreads) -> None:
    call = Call(2, ends=False)
    messages = calls.stream(lambda: call, idle=0.3)
    assert [next(messages), next(messages)] == [0, 1]
    with pytest.raises(TimeoutError):
        next(messages)
    assert call.cancelled.wait(DEADLINE)
    assert list(messages) == []


@pytest.mark.parametrize("how", ["cancel", "drop", "leave"])
def test_a_stream_that_is_left_is_cancelled(calls: CallThreads, how: str) -> None:
    call = Call(1, ends=False)
    messages = calls.stream(lambda: call)
    assert next(messages) == 0
    if how == "cancel":
        messages.cancel()
    elif how == "leave":
        with messages:
            pass
    del messages
    gc.collect()
    assert call.cancelled.wait(DEADLINE)
    until(lambda: not calls._made)


def test_an_interrupt_in_the_middle_of_giving_up_leaves_no_call(calls: CallThreads) -> None:
    call = Call(1, ends=False)
    messages = calls.stream(lambda: call)
    assert next(messages) == 0
    messages._over = True  # as far as it came
    del messages
    assert call.cancelled.wait(DEADLINE)


def test_one_message_is_read_before_it_is_asked_for_and_no_more(calls: CallThreads) -> None:
    call = Call(100, ends=True)
    messages = calls.stream(lambda: call)
    assert next(messages) == 0
    until(lambda: call.taken == 2)
    # The next call has been begun after this one had all the time that it needed.
    assert list(calls.stream(lambda: Call(50, ends=True))) == list(range(50))
    assert call.taken == 2
    assert list(messages) == list(range(1, 100))


def test_streams_within_each_other_have_a_thread_each_and_give_them_back(calls: CallThreads) -> None:
    many = [calls.stream(lambda: Call(10, ends=True)) for _ in range(20)]
    for number in range(10):
        assert [next(messages) for messages in many] == [number] * 20
    assert [list(messages) for messages in many] == [[]] * 20
    until(lambda: sum(thread.is_alive() for thread in calls._threads) <= 2)


def test_a_call_with_one_response_can_be_given_up(calls: CallThreads) -> None:
    future = Future()
    reply = calls.unary(lambda: future, DEADLINE)
    until(lambda: future._callbacks)
    reply.cancel()
    assert future.cancelled.wait(DEADLINE)
    until(lambda: not calls._made)


def test_what_is_raised_where_a_call_begins_comes_to_the_caller(calls: CallThreads) -> None:
    def begin() -> Any:
        raise ValueError("Cannot invoke RPC on closed channel!")

    with pytest.raises(ValueError, match="closed channel"):
        calls.unary(begin, DEADLINE).result()
    with pytest.raises(ValueError, match="closed channel"):
        next(calls.stream(begin))


def test_a_listing_that_is_closed_in_the_middle_does_not_look_whole(calls: CallThreads) -> None:
    messages = calls.stream(lambda: Call(3, ends=True))
    assert next(messages) == 0
    calls.close()
    with pytest.raises(Failure):
        list(messages)
    with pytest.raises(Failure):
        calls.unary(Future, DEADLINE).result()


def test_a_pause_ends_the_threads_that_make_no_call_and_others_go_on(calls: CallThreads) -> None:
    call = Call(3, ends=True)
    messages = calls.stream(lambda: call)
    assert next(messages) == 0
    assert calls.pause()
    assert [thread for thread in calls._threads if thread.is_alive() and thread.ended] == []
    waiting = calls.stream(lambda: Call(1, ends=True))
    assert list(messages) == [1, 2]
    calls.resume()
    assert list(waiting) == [0]


def test_a_pause_begins_no_thread_where_none_ran(calls: CallThreads) -> None:
    for _ in range(2):
        assert not calls.pause()
        calls.resume()
        assert not calls._started
    assert list(calls.stream(lambda: Call(1, ends=True))) == [0]
    assert calls.pause()


def test_a_pause_waits_for_calls_that_are_given_up(calls: CallThreads) -> None:
    call = Call(1, ends=False)
    messages = calls.stream(lambda: call)
    assert next(messages) == 0
    messages.cancel()
    calls.pause()
    assert not calls._made


def test_threads_end_when_they_are_dropped(calls: CallThreads) -> None:
    list(calls.stream(lambda: Call(1, ends=True)))
    threads = list(calls._threads)
    calls.drop()
    until(lambda: not any(thread.is_alive() for thread in threads))


def test_a_caller_is_not_held_up_where_nothing_is_heard_of_a_call(
    calls: CallThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neardict._call_threads._GRACE", 0.1)
    held: queue.SimpleQueue[None] = queue.SimpleQueue()
    reply = calls.unary(held.get, 0.1)
    with pytest.raises(TimeoutError):
        reply.result()
    held.put(None)
