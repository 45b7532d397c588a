"""When what failed is tried again, for how long, and with what error it ends. No I/O.

It is safe for every operation of ours: reads change nothing, and each write carries a request_id, which the
service applies once. So a call is tried until its deadline, whatever the service is restarted for; a write
that has perhaps been applied only while the service certainly remembers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from ._backoff import Backoff, jitter
from ._clock import now
from ._statuses import is_refused, reason
from .errors import DeadlineExceededError, NeardictError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .v1 import storage_pb2 as pb

_Answer = TypeVar("_Answer")

# Attempts that meet a port without a listener cost nothing, and gRPC connects once a second at most, so what
# is back is found soon.
BACKOFF = Backoff(0.05, 0.5)
# For so long after it was sent first a write may be sent again. The service remembers for a minute what it
# has applied; the rest is for what a message may be on its way.
REPEAT_SECONDS = 50.0
# How many streams an operation may have been on that failed for a reason which may be its own.
ATTEMPTS = 5

# Outcomes of operations that are neither results nor errors of gRPC.
AGAIN = object()  # the stream was ended on this side, and operations may go on the next one at once
LOST = object()  # the stream ended, and nothing says why
UNSUPPORTED = object()  # the service has no such stream

# The status table: what a failure says of the next attempt. Transient ones pass by themselves, as a restart
# does; CANCELLED is how a call ends that meets a server just as it stops.
TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
# Permanent ones say something of every operation on a stream. Any other end of a stream, as INTERNAL, may be
# due to one operation on it, and nothing is known of the others. RESOURCE_EXHAUSTED is permanent if the
# service gives a reason; gRPC itself has it for a server that has too much to do just now.
PERMANENT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
}
_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


def is_transient(error: pb.OperationError) -> bool:
    """Returns whether an operation on a stream failed alone, since its backend cannot be reached now."""
    return error.code == _UNAVAILABLE


def has_arrived(outcome: object) -> bool:
    """Returns whether what was sent on a stream that ended like this has perhaps reached the service."""
    return outcome is not UNSUPPORTED and not (isinstance(outcome, grpc.RpcError) and is_refused(outcome))


def unsafe(error: NeardictError) -> NeardictError:
    """Returns the error of a write that is not sent again, though there is time, if it is one of time."""
    if not isinstance(error, (UnavailableError, DeadlineExceededError)):
        return error
    return type(error)(
        f"the answer to a write was lost, and {REPEAT_SECONDS:g} seconds after it was sent the service may "
        "have forgotten it, so that it is not sent again: read the key to see whether it was applied; the "
        f"last attempt: {error}",
        reason=error.reason,
    )


def most_streams(outcome: object) -> float:
    """Returns on how many streams that end like this an operation may be before it ends as they do."""
    if outcome is AGAIN or outcome is LOST:
        return float("inf")
    if not isinstance(outcome, grpc.RpcError):
        return 1
    code = outcome.code()
    if code in TRANSIENT:
        return float("inf")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and not reason(outcome):
        return ATTEMPTS
    return 1 if code in PERMANENT else ATTEMPTS


class Attempts:
    """A call that is made again until its deadline, `seconds` from now on. No I/O.

    With `since_failure`, for what may take as long as it likes while it goes on: `seconds` from when the
    first attempt has failed. `left` is what the next attempt may take. After one that failed, `pause` says
    when the next is due. An attempt that sends a write says so by `sent`.
    """

    def __init__(
        self,
        seconds: float,
        *,
        since_failure: bool = False,
        clock: Callable[[], float] = now,
        jitter: Callable[[], float] = jitter,
    ) -> None:
        self._seconds = seconds
        self._since_failure = since_failure
        self._clock = clock
        self._jitter = jitter
        self._begun = clock()
        self._end = self._begun + seconds
        self._failed = 0
        self._sent: float | None = None
        # Whether that ends them, before their time.
        self._limited = False
        self._last: UnavailableError | None = None

    def left(self) -> float:
        """Returns how many seconds are left; none at all if it is not above 0."""
        return self._end - self._clock()

    def sent(self) -> None:
        """The attempt under way sends a write now, all of it: from here on it may be applied."""
        self._sent = self._clock()

    def pause(self, error: NeardictError) -> float:
        """Returns for how many seconds to wait before the next attempt, which begins with that.

        Raises the error to be raised if none is worth while: the last one; or that the time is over, with
        what came of the attempt before.
        """
        if isinstance(error, DeadlineExceededError):
            told = late(error, self._last)
            raise (unsafe(told) if self._limited else told) from None
        if not isinstance(error, UnavailableError):
            raise error from None
        now = self._clock()
        sent, self._sent = self._sent, None
        if sent is not None and not error._is_refused and sent + REPEAT_SECONDS < self._end:
            self._end = sent + REPEAT_SECONDS
            self._limited = True
        if self._since_failure and not self._failed:
            self._begun, self._end = now, now + self._seconds
        self._failed += 1
        self._last = error
        # Counted from its beginning: of many that failed together none waits after the other.
        due = max(self._begun + BACKOFF.wait(self._failed, self._jitter), now + error._retry_delay)
        if due >= self._end:
            raise (unsafe(error) if self._limited else error) from None
        self._begun = due
        return due - now


class Retried(Protocol):
    """Makes an attempt, again and again until it succeeds, is hopeless or the time is over."""

    def __call__(self, attempts: Attempts, attempt: Callable[[], _Answer]) -> _Answer: ...


def late(error: DeadlineExceededError, last: NeardictError | None) -> DeadlineExceededError:
    """Returns the error for an attempt that had no answer in time, if `last` came of the one before it."""
    if last is None:
        return error
    return DeadlineExceededError(f"{error}; the attempt before it: {last}", reason=last.reason)
