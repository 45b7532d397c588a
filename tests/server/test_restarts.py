"""A worker that ends is started again at once, and ever later if it does not last."""

from neardict_server.workers.restarts import (
    FIRST_WAIT_SECONDS,
    LASTING_SECONDS,
    LONGEST_WAIT_SECONDS,
    Restarts,
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def waits(restarts: Restarts, clock: Clock, *, lasting: float, times: int) -> list[float]:
    """Returns how long is waited for each restart of a worker that lasts so long each time."""
    found = []
    for _ in range(times):
        clock.now += lasting
        found.append(restarts.ended())
        clock.now += found[-1]
        restarts.started()
    return found


def test_the_first_end_is_followed_by_a_start_at_once() -> None:
    clock = Clock()
    assert waits(Restarts(clock), clock, lasting=0.1, times=1) == [0]


def test_one_that_ends_again_and_again_is_started_ever_later_but_not_later_than_that() -> None:
    clock = Clock()
    found = waits(Restarts(clock), clock, lasting=1, times=12)
    assert found[:4] == [0, FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS, 4 * FIRST_WAIT_SECONDS]
    assert found == sorted(found)
    assert found[-1] == LONGEST_WAIT_SECONDS


def test_one_that_has_lasted_is_started_at_once_again() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    assert waits(restarts, clock, lasting=1, times=5)[-1] > 0
    assert waits(restarts, clock, lasting=LASTING_SECONDS, times=3) == [0, 0, 0]
    assert waits(restarts, clock, lasting=1, times=2) == [FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS]
