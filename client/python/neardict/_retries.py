"""How often, and after what time, one tries again where the service cannot be reached.

For unary calls gRPC does it, by service config; what travels on a stream has to be repeated by hand. It is
safe for every operation of ours: reads change nothing, and each write carries a request_id, which the
service applies once.
"""

from __future__ import annotations

import random

import grpc

from .v1 import storage_pb2 as pb

ATTEMPTS = 5
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
MULTIPLIER = 2.5

# Outcomes of operations that are neither results nor errors of gRPC.
AGAIN = object()  # the stream was ended on this side, and operations may go on the next one at once
LOST = object()  # the stream ended, and nothing says why
UNSUPPORTED = object()  # the service has no such stream

_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]
# How a stream ends that says something of every operation on it. After any other end, one that had no
# result may have it on the next stream.
_LASTING = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
}


# Not the generator of the module random, which is the program's own: it may have seeded it. The system's, so
# that the children of a fork do not go in step.
CHANCE = random.SystemRandom()


def jitter() -> float:
    """Returns a factor for pauses: never two clients in step."""
    return CHANCE.uniform(0.8, 1.2)


def pause_between(attempts: int) -> float:
    """Returns for how many seconds to wait after so many attempts, times the jitter."""
    return min(FIRST_SECONDS * MULTIPLIER ** (attempts - 1), LONGEST_SECONDS)


def pause_after(outcome: object, attempts: int, factor: float, seconds: float) -> float | None:
    """Returns for how long to wait until the operation is tried again; None if it is over.

    `outcome` is a result, or how the stream ended, after so many attempts; `seconds` are left of the time for
    the operation.
    """
    if outcome is AGAIN:
        return 0.0
    if attempts == ATTEMPTS or not _worthwhile(outcome):
        return None
    pause = factor * pause_between(attempts)
    return None if pause > seconds else pause


def _worthwhile(outcome: object) -> bool:
    if isinstance(outcome, pb.OperationResult):
        return outcome.HasField("error") and outcome.error.code == _UNAVAILABLE
    if isinstance(outcome, grpc.RpcError):
        return outcome.code() not in _LASTING
    return outcome is LOST
