"""When a call is tried again, and with what error it ends: by a clock of the test's own, without any I/O."""

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from neardict import DeadlineExceededError, NeardictError, PermissionDeniedError, UnavailableError
from neardict._backoff import jitter
from neardict._outages import plain
from neardict._retries import BACKOFF, REPEAT_SECONDS, Attempts
from neardict._statuses import Failure, to_error

DOWN = UnavailableError("Redis (backend `shared`) is down", reason="BACKEND_UNAVAILABLE")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock, seconds: float, *, since_failure: bool = False) -> Attempts:
    return Attempts(seconds, since_failure=since_failure, clock=clock, jitter=lambda: 1.0)


def test_the_backoff_grows_to_its_bound_and_never_beyond() -> None:
    waits = [BACKOFF.wait(number, lambda: 1.0) for number in range(1, 5000)]
    assert waits[0] == BACKOFF.first
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF.longest


def test_no_two_clients_go_in_step() -> None:
    assert len({jitter() for _ in range(100)}) > 90
    assert all(0 < jitter() <= 1 for _ in range(100))


@pytest.mark.parametrize("seconds", [0.5, 10.0, 60.0])
def test_a_call_is_tried_until_its_deadline_and_ends_with_its_last_outcome(seconds: float) -> None:
    clock = Clock()
    trying = attempts(clock, seconds)
    pauses = []

    def fail() -> None:
        while True:
            assert trying.left() == pytest.approx(100 + seconds - clock.now)
            pauses.append(trying.pause(DOWN))
            clock.now += pauses[-1]

    with pytest.raises(UnavailableError) as caught:
        fail()
    assert caught.value is DOWN
    assert clock.now > 100 + seconds - BACKOFF.longest
    assert clock.now < 100 + seconds
    assert pauses[0] == pytest.approx(BACKOFF.first)


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        (duration_pb2.Duration(seconds=2), 2.0),
        (duration_pb2.Duration(nanos=1), BACKOFF.first),
        (duration_pb2.Duration(seconds=-(10**15)), BACKOFF.first),
        (duration_pb2.Duration(seconds=10**15), 30.0),
    ],
)
def test_a_service_that_asks_for_time_gets_it(delay: duration_pb2.Duration, waits: float) -> None:
    status = status_pb2.Status(code=14, message="too much")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="TOO_MUCH_IN_FLIGHT", domain="neardict"))
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    error = to_error(Failure(grpc.StatusCode.UNAVAILABLE, "too much", trailers), "there")
    assert error.reason == "TOO_MUCH_IN_FLIGHT"
    assert attempts(Clock(), 100).pause(error) == pytest.approx(waits)


def test_what_is_permanent_is_raised_at_once() -> None:
    error = PermissionDeniedError("no")
    with pytest.raises(PermissionDeniedError) as caught:
        attempts(Clock(), 10).pause(error)
    assert caught.value is error


def test_a_deadline_during_an_attempt_says_what_came_of_the_one_before() -> None:
    trying = attempts(Clock(), 10)
    late = DeadlineExceededError("deadline exceeded")
    trying.pause(DOWN)
    with pytest.raises(
        DeadlineExceededError, match=r"deadline exceeded.*Redis \(backend `shared`\)"
    ) as caught:
        trying.pause(late)
    assert caught.value.reason == "BACKEND_UNAVAILABLE"
    # Of the first there is nothing to say.
    with pytest.raises(DeadlineExceededError) as caught:
        attempts(Clock(), 10).pause(late)
    assert caught.value is late


def test_of_many_that_have_failed_together_none_waits_after_the_other() -> None:
    clock = Clock()
    many = [attempts(clock, 10) for _ in range(100)]
    waited = 0.0
    for trying in many:  # as a bulk looks at them, one by one
        pause = trying.pause(DOWN)
        waited += pause
        clock.now += pause
    assert waited == pytest.approx(BACKOFF.first)


def test_what_may_last_as_long_as_it_likes_has_its_time_from_when_it_broke() -> None:
    clock = Clock()
    trying = attempts(clock, 10, since_failure=True)
    clock.now += 1000
    error: NeardictError | None = None
    while error is None:
        try:
            clock.now += trying.pause(DOWN)
        except UnavailableError as caught:
            error = caught
    assert 9 < clock.now - 1100 < 10


def test_what_was_perhaps_written_is_sent_again_only_while_it_is_remembered() -> None:
    clock = Clock()
    trying = attempts(clock, 1000)
    refused = UnavailableError("connection refused")
    refused._is_refused = True
    for _ in range(100):  # nobody was there to write it
        trying.sent()
        clock.now += 1
        trying.pause(refused)
    assert trying.left() == 900
    trying.sent()
    clock.now += 10
    trying.pause(DOWN)
    assert trying.left() == REPEAT_SECONDS - 10
    trying.sent()
    clock.now += 10
    trying.pause(refused)
    assert trying.left() == REPEAT_SECONDS - 20
    trying.sent()
    clock.now += 10
    trying.pause(DOWN)  # counted from when it was sent first
    assert trying.left() == REPEAT_SECONDS - 30
    clock.now += 40
    with pytest.raises(UnavailableError, match=r"not sent again: read the key .* is down") as caught:
        trying.pause(DOWN)
    assert caught.value.reason == DOWN.reason


@pytest.mark.parametrize(
    ("details", "meaning"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to "
            "remote host: Connection refused",
            "connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1: Failed to connect to "
            "remote host: getsockopt(SO_ERROR): Network is unreachable",
            "network is unreachable",
        ),
        (
            "errors resolving a.invalid:1: [field:hostname lookup error:address lookup failed for "
            "a.invalid:1: Domain name not found]",
            "its name cannot be resolved",
        ),
        ("recvmsg:Connection reset by peer", "the connection was reset"),
        ("Socket closed", "the connection broke"),
        ("ipv4:10.0.0.1:1: Timeout occurred: FD Shutdown", "connecting timed out"),
        ("GOAWAY received; Error code: 0; Debug Text: Server shutdown", "the service closed the connection"),
        ("something new", "something new"),
    ],
)
def test_why_nothing_answers_is_said_in_plain_words(details: str, meaning: str) -> None:
    assert plain(details) == meaning
