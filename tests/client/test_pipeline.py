"""What the client engine keeps of its operations, without any I/O."""

import itertools
from collections import Counter
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neardict import _pipeline
from neardict._pipeline import Operation, Pipeline, milliseconds
from neardict._retries import AGAIN, ATTEMPTS, BACKOFF, LOST, REPEAT_SECONDS, UNSUPPORTED
from neardict.v1 import storage_pb2 as pb

from .execute_server import error


class _Get(Operation):
    writes = False

    def fill(self, message: pb.Operation) -> None:
        message.get_value.domain = self.domain
        message.get_value.key = self.key


class _Set(Operation):
    def fill(self, message: pb.Operation) -> None:
        message.set_value.domain = self.domain
        message.set_value.key = self.key


def operation(
    domain: str = "a", size: int = 10, deadline: float = 1000.0, *, writes: bool = False, now: float = 0.0
) -> Operation:
    one = (_Set if writes else _Get)(domain, "key", size)
    one.begin(now, deadline - now)
    return one


def found(*operations: Operation) -> pb.ExecuteResponse:
    return pb.ExecuteResponse(
        results=[pb.OperationResult(number=one.number, get_value=pb.GetValueResponse()) for one in operations]
    )


def take(pipeline: Pipeline, now: float = 0.0) -> pb.ExecuteRequest | None:
    """Returns what is to be sent, where nothing is given up."""
    request, settled = pipeline.take(now)
    assert settled == []
    return request


def numbers(request: pb.ExecuteRequest | None) -> list[int]:
    return [] if request is None else [one.number for one in request.operations]


def add(pipeline: Pipeline, *operations: Operation) -> list[int]:
    for one in operations:
        pipeline.add(one)
    return [one.number for one in operations]


def take_all(pipeline: Pipeline) -> list[int]:
    return [number for request in iter(lambda: take(pipeline), None) for number in numbers(request)]


@pytest.mark.parametrize(
    ("seconds", "sent"),
    [(0.0001, 1), (0.25, 250), (10, 10_000), (2**32, 0), (float("inf"), 0), (4294967.295, 2**32 - 1)],
)
def test_a_timeout_travels_as_milliseconds_and_one_too_long_as_none(seconds: float, sent: int) -> None:
    assert milliseconds(seconds) == sent


def test_a_domain_that_is_not_answered_holds_up_no_other() -> None:
    pipeline = Pipeline()
    stalled = [operation("stalled") for _ in range(5000)]
    expected = add(pipeline, *stalled)
    assert take_all(pipeline) == expected[: _pipeline.MOST_OF_DOMAIN]
    other = add(pipeline, operation("other"))
    assert take_all(pipeline) == other
    # An answer makes room for one.
    assert pipeline.received(found(stalled[0]), 0) == [stalled[0]]
    assert take_all(pipeline) == [expected[_pipeline.MOST_OF_DOMAIN]]


def test_large_operations_take_more_of_the_window() -> None:
    pipeline = Pipeline()
    add(pipeline, *(operation(size=_pipeline.LARGEST_BYTES) for _ in range(1000)))
    assert len(take_all(pipeline)) == -(-_pipeline.MOST_OF_DOMAIN // 5)


def test_a_stream_has_no_more_unanswered_than_the_service_reads() -> None:
    pipeline = Pipeline()
    each = [operation(f"domain {number}") for number in range(_pipeline.MOST_OF_STREAM + 10)]
    add(pipeline, *each)
    assert len(take_all(pipeline)) == _pipeline.MOST_OF_STREAM
    assert not pipeline.waits
    pipeline.received(found(*each[:5]), 0)
    assert len(take_all(pipeline)) == 5


def test_there_is_room_for_one_more_domain_however_many_have_stalled() -> None:
    pipeline = Pipeline()
    for number in range(100):
        stalled = [operation(f"stalled {number}") for _ in range(1500)]
        add(pipeline, *stalled)
        take_all(pipeline)
    other = add(pipeline, operation("other"))
    assert take_all(pipeline) == other


@pytest.mark.parametrize("size", [1, 100, _pipeline.LARGEST_BYTES])
def test_a_message_is_below_what_every_service_takes_even_when_thousands_give_up_at_once(size: int) -> None:
    pipeline = Pipeline()
    pipeline._numbers = itertools.count(2**40)
    first = [operation(f"domain {number % 8}") for number in range(_pipeline.MOST_OF_STREAM)]
    add(pipeline, *first)
    take_all(pipeline)
    first = list(pipeline._unanswered.values())
    assert len(first) > 4000
    for one in first:
        pipeline.abandon(one)
    pipeline.received(found(*first[:4000]), 0)
    for number in range(3000):
        domain = f"domain {number % 8}"
        key = "k" * (size - 14 if size > 14 else 1)
        pipeline.add(_Get(domain, key, pb.GetValueRequest(domain=domain, key=key).ByteSize()))
    requests = list(iter(lambda: take(pipeline), None))
    assert {number for request in requests for number in request.cancelled_numbers} == {
        one.number for one in first
    }
    assert max(request.ByteSize() for request in requests if request is not None) < 64 * 1024


def test_what_nobody_waits_for_any_more_is_not_sent_and_takes_no_room() -> None:
    pipeline = Pipeline()
    sent = [operation() for _ in range(1024)]
    add(pipeline, *sent)
    take_all(pipeline)
    for _ in range(3):
        held = [operation() for _ in range(1000)]
        add(pipeline, *held)
        for one in held:
            pipeline.abandon(one)
    assert not pipeline._held
    queued = operation("other")
    add(pipeline, queued)
    pipeline.abandon(queued)
    assert take(pipeline) is None
    assert set(pipeline._load) == {"a"}


def test_who_gives_up_after_it_was_sent_has_the_service_told_and_frees_its_place_with_the_result() -> None:
    pipeline = Pipeline()
    one = operation()
    (number,) = add(pipeline, one)
    take_all(pipeline)
    pipeline.abandon(one)
    request = take(pipeline)
    assert request is not None
    assert list(request.cancelled_numbers) == [number]
    assert take(pipeline) is None
    assert pipeline._load == {"a": 1}
    assert pipeline.received(found(one), 0) == []
    assert not pipeline._load
    assert not pipeline._sent
    assert one.outcome is None


def test_a_result_that_comes_twice_or_for_nobody_is_passed_over() -> None:
    pipeline = Pipeline()
    one = operation()
    add(pipeline, one)
    take_all(pipeline)
    assert pipeline.received(found(one, one, operation()), 0) == [one]


class Ended(grpc.RpcError):
    """How a stream ends."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", text: str = "") -> None:
        self._code = code
        self._text = text
        self._details = any_pb2.Any()
        self._details.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="neardict"))

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> Any:
        status = status_pb2.Status(code=self._code.value[0], details=[self._details])
        return (("grpc-status-details-bin", status.SerializeToString()),)


TRANSIENT = [LOST, Ended(grpc.StatusCode.UNAVAILABLE), Ended(grpc.StatusCode.CANCELLED)]
PERMANENT = [
    UNSUPPORTED,
    Ended(grpc.StatusCode.INVALID_ARGUMENT),
    Ended(grpc.StatusCode.PERMISSION_DENIED),
    Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
    Ended(grpc.StatusCode.UNAUTHENTICATED),
]
# May be the fault of one operation on the stream, or of nobody.
BROKEN = [
    Ended(grpc.StatusCode.INTERNAL),
    Ended(grpc.StatusCode.UNKNOWN),
    Ended(grpc.StatusCode.ABORTED),
    # As gRPC says it, of a server with too much to do.
    Ended(grpc.StatusCode.RESOURCE_EXHAUSTED),
]


def ended_by(outcome: Any) -> str:
    if isinstance(outcome, Ended):
        return outcome.code().name
    return "LOST" if outcome is LOST else "UNSUPPORTED"


@pytest.mark.parametrize("outcome", TRANSIENT, ids=ended_by)
def test_what_was_on_a_lost_stream_is_tried_again_until_its_deadline_all_at_once_and_in_order(
    outcome: Any,
) -> None:
    pipeline = Pipeline()
    all_of_them = [operation(deadline=100) for _ in range(3000)]
    expected = add(pipeline, *all_of_them)
    now = 0.0
    for _ in range(200):
        assert take_all(pipeline) == expected[:1024]
        assert pipeline.lost(outcome, now) == []
        due = pipeline.due
        assert due is not None
        assert now < due <= now + BACKOFF.longest
        now = due
        pipeline.add_due(now)
        if now > 99:
            break
    take_all(pipeline)
    assert pipeline.lost(outcome, 100) == all_of_them
    assert all(one.outcome is outcome for one in all_of_them)


@pytest.mark.parametrize("outcome", BROKEN, ids=ended_by)
def test_streams_that_break_for_a_reason_of_their_own_are_opened_five_times(outcome: Any) -> None:
    pipeline = Pipeline()
    one = operation(deadline=100)
    add(pipeline, one)
    now = 0.0
    for attempt in range(ATTEMPTS):
        assert len(take_all(pipeline)) == 1
        settled = pipeline.lost(outcome, now)
        assert settled == ([one] if attempt == ATTEMPTS - 1 else [])
        now += BACKOFF.longest
        pipeline.add_due(now)


@pytest.mark.parametrize("outcome", PERMANENT, ids=ended_by)
def test_what_no_other_attempt_changes_is_told_at_once(outcome: Any) -> None:
    pipeline = Pipeline()
    sent, queued = operation(), operation()
    add(pipeline, sent)
    take_all(pipeline)
    add(pipeline, queued)
    assert pipeline.lost(outcome, 0) == [sent, queued]
    assert pipeline.due is None


def test_attempts_come_less_often_until_something_is_answered() -> None:
    pipeline = Pipeline(jitter=lambda: 1.0)
    one, other = operation(), operation()
    add(pipeline, one, other)
    waited = []
    now = 0.0
    for attempt in range(8):
        take_all(pipeline)
        if attempt == 6:
            pipeline.received(found(other), now)
        pipeline.lost(LOST, now)
        assert pipeline.due is not None
        waited.append(pipeline.due - now)
        now = pipeline.due
        pipeline.add_due(now)
    assert waited[:6] == sorted(waited[:6])
    assert waited[0] < waited[5] == pytest.approx(BACKOFF.longest)
    assert waited[6] == pytest.approx(waited[0])


REFUSED = Ended(
    grpc.StatusCode.UNAVAILABLE,
    text="failed to connect to all addresses; last error: UNKNOWN: Failed to connect to remote host: "
    "Connection refused",
)
# As Envoy says it, of what it has tried more than once.
RESET = Ended(grpc.StatusCode.UNAVAILABLE, text="upstream connect error: reset reason: Connection refused")
BROKE = [LOST, AGAIN, Ended(grpc.StatusCode.UNAVAILABLE), RESET]


@pytest.mark.parametrize("outcome", BROKE, ids=["LOST", "AGAIN", "UNAVAILABLE", "by a proxy"])
def test_what_was_perhaps_written_is_sent_again_only_while_it_is_remembered(outcome: Any) -> None:
    pipeline = Pipeline()
    write, read, later = operation(writes=True), operation(), operation(writes=True)
    add(pipeline, write, read)
    assert len(take_all(pipeline)) == 2
    add(pipeline, later)
    now = REPEAT_SECONDS - 1
    assert pipeline.lost(outcome, now) == []
    pipeline.add_due(now + 0.9)
    assert numbers(take(pipeline, now + 0.9)) == [write.number, read.number, later.number]
    now = REPEAT_SECONDS + 1
    settled = pipeline.lost(outcome, now)
    pipeline.add_due(now + BACKOFF.longest)
    again, given_up = pipeline.take(now + BACKOFF.longest)
    # `later` was sent for the first time on the second stream.
    assert numbers(again) == [read.number, later.number]
    assert [*settled, *given_up] == [write]
    assert write.outcome is (LOST if outcome is AGAIN else outcome)


@pytest.mark.parametrize("seconds", [1000.0, 10_000_000.0, float("inf")])
def test_a_service_is_not_told_to_take_longer_for_what_it_may_have_written(seconds: float) -> None:
    pipeline = Pipeline()
    write = operation(writes=True, deadline=seconds)
    add(pipeline, write)
    take_all(pipeline)
    pipeline.lost(LOST, 10)
    pipeline.add_due(11)
    again = take(pipeline, 11)
    assert again is not None
    assert again.operations[0].timeout_milliseconds == 1000 * (REPEAT_SECONDS - 10)


def test_what_waits_until_that_time_is_over_is_given_up_when_its_turn_comes() -> None:
    pipeline = Pipeline()
    write = operation(writes=True)
    add(pipeline, write)
    take_all(pipeline)
    pipeline.lost(LOST, 10)
    pipeline.add_due(11)
    assert pipeline.take(REPEAT_SECONDS) == (None, [write])
    assert write.outcome is LOST
    assert pipeline._load == {}


@pytest.mark.parametrize("outcome", [REFUSED, UNSUPPORTED], ids=ended_by)
def test_a_write_that_nobody_can_have_got_has_all_its_time(outcome: Any) -> None:
    pipeline = Pipeline()
    write = operation(writes=True)
    add(pipeline, write)
    take_all(pipeline)
    pipeline.lost(outcome, REPEAT_SECONDS + 1)
    assert write.deadline == 1000


def test_a_write_counts_from_when_it_was_sent_first_to_somebody() -> None:
    pipeline = Pipeline()
    write = operation(writes=True)
    add(pipeline, write)
    now = 0.0
    while now < 100:
        assert numbers(take(pipeline, now)) == [write.number]
        assert pipeline.lost(REFUSED, now) == []
        assert pipeline.due is not None
        now = pipeline.due
        pipeline.add_due(now)
    sent = now
    for outcome in (LOST, REFUSED, LOST):
        assert numbers(take(pipeline, now)) == [write.number]
        assert pipeline.lost(outcome, now + 1) == []
        now += 1 + BACKOFF.longest
        pipeline.add_due(now)
        assert write.deadline == sent + REPEAT_SECONDS


def test_a_backend_that_is_down_may_have_written_too() -> None:
    pipeline = Pipeline()
    write = operation(writes=True)
    add(pipeline, write)
    (number,) = take_all(pipeline)
    down = pb.ExecuteResponse(results=[error(number, grpc.StatusCode.UNAVAILABLE)])
    assert pipeline.received(down, REPEAT_SECONDS - 1) == []
    pipeline.add_due(REPEAT_SECONDS - 0.1)
    assert take_all(pipeline) == [number]
    assert pipeline.received(down, REPEAT_SECONDS) == [write]
    assert write.outcome.error.code == grpc.StatusCode.UNAVAILABLE.value[0]


def test_one_that_ends_because_its_backend_is_down_lets_nothing_overtake_another() -> None:
    pipeline = Pipeline()
    alone, second = operation(writes=True), operation(writes=True)
    add(pipeline, alone)
    down = grpc.StatusCode.UNAVAILABLE
    (number,) = take_all(pipeline)
    pipeline.received(pb.ExecuteResponse(results=[error(number, down)]), 1)
    pipeline.add_due(10)
    take(pipeline, 10)
    add(pipeline, second)
    take(pipeline, 10)
    now = REPEAT_SECONDS + 1
    assert pipeline.received(pb.ExecuteResponse(results=[error(second.number, down)]), now) == []
    third = operation(writes=True)
    add(pipeline, third)
    assert pipeline.received(pb.ExecuteResponse(results=[error(number, down)]), now) == [alone]
    assert take_all(pipeline) == []
    pipeline.add_due(now + BACKOFF.longest)
    assert numbers(take(pipeline, now + BACKOFF.longest)) == [second.number, third.number]


def test_after_a_fork_everything_goes_on_at_once_in_its_order_and_no_attempt_is_counted() -> None:
    pipeline = Pipeline()
    all_of_them = [operation() for _ in range(1500)]
    add(pipeline, *all_of_them)
    for _ in range(2 * ATTEMPTS):
        take_all(pipeline)
        assert pipeline.lost(AGAIN, 0) == []
        assert pipeline.waits
        assert [one.number for one in all_of_them] == sorted(one.number for one in all_of_them)


def test_nothing_is_tried_again_after_its_deadline() -> None:
    pipeline = Pipeline()
    soon, late = operation(deadline=0.05), operation(deadline=10)
    add(pipeline, soon, late)
    take_all(pipeline)
    assert pipeline.lost(LOST, 0.05) == [soon]


def test_what_is_overdue_when_the_stream_is_ended_here_is_left_to_whoever_waits_and_then_forgotten() -> None:
    pipeline = Pipeline()
    overdue, others = operation(deadline=1.0), [operation() for _ in range(3)]
    add(pipeline, overdue, *others)
    take_all(pipeline)
    for _ in range(3):
        # That outcome is none that anybody could be told.
        assert pipeline.lost(AGAIN, 1.5) == []
        assert overdue.outcome is None
    pipeline.abandon(overdue)
    request = take(pipeline)
    assert request is not None
    assert [one.number for one in request.operations] == [one.number for one in others]
    pipeline.received(found(*others), 2.0)
    assert not pipeline.waits
    assert pipeline._load == {}


def test_the_service_is_told_what_is_left_of_the_time() -> None:
    pipeline = Pipeline()
    one = operation(deadline=10)
    one.timeout = 10_000
    add(pipeline, one)
    take_all(pipeline)
    pipeline.lost(LOST, 4)
    pipeline.add_due(5)
    request = take(pipeline, 5)
    assert request is not None
    assert request.operations[0].timeout_milliseconds == 6000


# Their order.


def test_what_comes_while_a_stream_is_down_stands_behind_what_was_on_it() -> None:
    pipeline = Pipeline()
    sent = add(pipeline, *(operation() for _ in range(3)))
    take_all(pipeline)
    pipeline.lost(LOST, 0)
    later = add(pipeline, *(operation() for _ in range(3)))
    assert not pipeline.waits
    pipeline.add_due(3)
    assert take_all(pipeline) == sent + later


def unavailable(*operations: Operation) -> pb.ExecuteResponse:
    return pb.ExecuteResponse(results=[error(one.number, grpc.StatusCode.UNAVAILABLE) for one in operations])


def test_what_comes_while_a_backend_is_down_stands_behind_what_it_has_failed() -> None:
    pipeline = Pipeline()
    first, second, third = operation(), operation(), operation()
    expected = add(pipeline, first, second, third)
    take_all(pipeline)
    # Of those that are in flight each fails by itself, in whatever order that is told.
    pipeline.received(unavailable(second), 0)
    expected += add(pipeline, operation(), operation())
    other = add(pipeline, operation("other"))
    assert take_all(pipeline) == other  # of another domain, whose backend may be up
    pipeline.received(unavailable(first, third), 0)
    assert take_all(pipeline) == []
    assert pipeline.due is not None
    pipeline.add_due(pipeline.due)
    assert take_all(pipeline) == expected


def test_what_was_queued_waits_too_and_a_lost_stream_changes_nothing_of_the_order() -> None:
    pipeline = Pipeline()
    first = operation()
    expected = add(pipeline, first)
    take_all(pipeline)
    expected += add(pipeline, operation(), operation())
    pipeline.received(unavailable(first), 0)
    assert take_all(pipeline) == []
    expected += add(pipeline, operation())
    pipeline.lost(LOST, 0)
    expected += add(pipeline, operation())
    pipeline.add_due(3)
    assert take_all(pipeline) == expected


def test_one_that_fails_while_others_of_its_domain_succeed_holds_them_up_no_longer() -> None:
    pipeline = Pipeline()
    damaged, fine = operation(), operation()
    add(pipeline, damaged, fine)
    take_all(pipeline)
    pipeline.received(unavailable(damaged), 0)
    behind = add(pipeline, operation())
    assert take_all(pipeline) == []
    pipeline.received(found(fine), 0)
    assert take_all(pipeline) == behind
    # It is still tried again, by itself, and holds up nothing any more.
    for _ in range(3):
        assert pipeline.due is not None
        pipeline.add_due(pipeline.due)
        assert take_all(pipeline) == [damaged.number]
        pipeline.received(unavailable(damaged), 0)
        behind = add(pipeline, operation())
        assert take_all(pipeline) == behind


def test_who_gives_up_while_its_domain_waits_lets_the_others_go_on() -> None:
    pipeline = Pipeline()
    failed = operation()
    add(pipeline, failed)
    take_all(pipeline)
    pipeline.received(unavailable(failed), 0)
    gone, behind = operation(), operation()
    add(pipeline, gone, behind)
    pipeline.abandon(gone)
    pipeline.abandon(failed)
    assert pipeline.due is not None
    pipeline.add_due(pipeline.due)
    assert take_all(pipeline) == [behind.number]
    assert pipeline.due is None


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_an_operation_that_failed_alone_is_tried_again_alone_if_its_backend_was_unavailable(
    code: grpc.StatusCode,
) -> None:
    pipeline = Pipeline()
    one, other = operation(), operation()
    add(pipeline, one, other)
    take_all(pipeline)
    response = pb.ExecuteResponse(results=[error(one.number, code)])
    settled = pipeline.received(response, 0)
    assert settled == ([] if code is grpc.StatusCode.UNAVAILABLE else [one])
    assert pipeline.received(found(other), 0) == [other]
    assert (pipeline.due is not None) == (code is grpc.StatusCode.UNAVAILABLE)


def test_what_waits_to_be_tried_again_is_refused_with_everything_else() -> None:
    pipeline = Pipeline()
    again, sent, queued = operation(), operation(), operation()
    add(pipeline, again)
    take_all(pipeline)
    pipeline.lost(LOST, 0)
    add(pipeline, sent)
    take_all(pipeline)
    add(pipeline, queued)
    closed = RuntimeError()
    assert Counter(map(id, pipeline.refuse(closed))) == Counter(map(id, (again, sent, queued)))
    assert pipeline.due is None
    assert not pipeline.waits


class Machine(RuleBasedStateMachine):
    """Everything that can happen to a pipeline, with a window so small that it matters."""

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = Pipeline(jitter=lambda: 1.0)  # the same in each run of an example
        self.now = 0.0
        self.alive: list[Operation] = []  # neither settled nor abandoned
        self.settled: Counter[int] = Counter()
        self.all: list[Operation] = []
        # By domain, what has been added and is not answered: none is sent before those in front of it, unless
        # these failed while others succeeded, and so stand aside.
        self.order: dict[str, list[Operation]] = {}
        self.aside: set[int] = set()
        self.sent: dict[int, Operation] = {}
        self.applied: dict[int, float] = {}  # when each was sent first

    def settle(self, operations: list[Operation]) -> None:
        for one in operations:
            assert one in self.alive
            assert one.outcome is not None
            self.alive.remove(one)
            self.settled[id(one)] += 1

    @rule(
        domain=st.sampled_from("abc"),
        size=st.sampled_from([0, 5000, 40_000]),
        count=st.integers(1, 9),
        writes=st.booleans(),
    )
    def add(self, domain: str, size: int, count: int, writes: bool) -> None:
        for _ in range(count):
            one = operation(domain, size, self.now + 1000, writes=writes, now=self.now)
            self.alive.append(one)
            self.all.append(one)
            self.pipeline.add(one)
            self.order.setdefault(domain, []).append(one)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), told=st.booleans())
    def abandon(self, data: st.DataObject, told: bool) -> None:
        one = data.draw(st.sampled_from(self.alive))
        self.alive.remove(one)
        one.abandoned = True
        if told:  # else the pipeline finds it out
            self.pipeline.abandon(one)

    @rule()
    def take(self) -> None:
        request, given_up = None, list[Operation]()
        if self.pipeline.waits or self.pipeline._cancelled:
            request, given_up = self.pipeline.take(self.now)
        for one in given_up:
            assert one.writes
            self.order[one.domain].remove(one)
        self.settle(given_up)
        for number in numbers(request):
            (one,) = [one for one in self.all if one.number == number]
            assert not one.abandoned
            assert number not in self.sent
            sent = self.applied.setdefault(id(one), self.now)
            assert not one.writes or self.now < sent + REPEAT_SECONDS
            for before in self.order[one.domain]:
                if before is one:
                    break
                # None is overtaken.
                assert before.abandoned or before.number in self.sent or id(before) in self.aside
            self.sent[number] = one

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), how=st.sampled_from(["found", "failed", "unavailable"]))
    def receive(self, data: st.DataObject, how: str) -> None:
        chosen = data.draw(st.lists(st.sampled_from(list(self.sent.values())), min_size=1, unique_by=id))
        for one in chosen:
            del self.sent[one.number]
        code = grpc.StatusCode.UNAVAILABLE if how == "unavailable" else grpc.StatusCode.ABORTED
        if how == "found":
            response = found(*chosen)
        else:
            response = pb.ExecuteResponse(results=[error(one.number, code) for one in chosen])
        settled = self.pipeline.received(response, self.now)
        if how == "unavailable":
            late = [one.writes and self.now >= self.applied[id(one)] + REPEAT_SECONDS for one in settled]
            assert all(late)
        for one in settled:
            self.order[one.domain].remove(one)
            if how == "unavailable":
                continue
            for failed in self.order[one.domain]:
                if failed.failures and failed.number not in self.sent:
                    self.aside.add(id(failed))
        self.settle(settled)

    @rule(outcome=st.sampled_from([AGAIN, LOST, UNSUPPORTED, *BROKEN]))
    def lose(self, outcome: Any) -> None:
        self.sent.clear()
        settled = self.pipeline.lost(outcome, self.now)
        for one in settled:
            self.order[one.domain].remove(one)
        self.settle(settled)
        if outcome is not AGAIN:
            assert not self.pipeline.waits

    @rule(seconds=st.sampled_from([0.0, 0.1, 3.0, REPEAT_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.pipeline.add_due(self.now)
        assert self.pipeline.due is None or self.pipeline.due > self.now

    @invariant()
    def windows_are_kept_and_nothing_is_settled_twice(self) -> None:
        pipeline = self.pipeline
        assert all(times == 1 for times in self.settled.values())
        loads: Counter[str] = Counter()
        for one in (*pipeline._unanswered.values(), *pipeline._queue.values()):
            loads[one.domain] += one.cost
        assert loads == pipeline._load
        assert pipeline._unanswered == self.sent
        assert pipeline._sent == sum(one.cost for one in self.sent.values())
        for domain, held in pipeline._held.items():
            assert held
            # With a result the next ones follow, or when what failed is tried again.
            assert loads[domain] > 0 or domain in pipeline._locked
        for domain, due in pipeline._locked.items():
            assert (domain, due) in {(one.domain, at) for at, _, one in pipeline._later}
        # Nothing that somebody waits for is forgotten.
        known = {
            id(one)
            for one in (
                *pipeline._unanswered.values(),
                *pipeline._queue.values(),
                *(one for held in pipeline._held.values() for one in held.values()),
                *(one for _, _, one in pipeline._later),
            )
        }
        assert {id(one) for one in self.alive} <= known

    def teardown(self) -> None:
        waiting = list(self.alive)
        self.settle(self.pipeline.refuse(RuntimeError()))
        assert not self.alive
        assert all(self.settled[id(one)] == 1 for one in waiting)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "MOST_OF_DOMAIN", 4)
    monkeypatch.setattr(_pipeline, "MOST_OF_STREAM", 9)
    monkeypatch.setattr(_pipeline, "SHARED", 8)
    monkeypatch.setattr(_pipeline, "REQUEST_OPERATIONS", 3)
    monkeypatch.setattr(_pipeline, "REQUEST_CANCELLED", 2)


def test_each_operation_is_settled_once_or_abandoned_whatever_happens(small: None) -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
