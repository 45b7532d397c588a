"""Words why an operation failed, as soon as that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from neardict.v1 import storage_pb2 as pb

from ..edge import describe
from .job import CancelledJobError, LateJobError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..backends import base


def worded(outcomes: Iterable[base.Outcome]) -> Iterator[base.Success | pb.OperationError]:
    """Yields the outcomes with words in place of exceptions, of which equal ones are worded once.

    An exception must not wait for its turn to be sent: its traceback holds on to the request, value and all.
    """
    latest: Exception | None = None
    words: pb.OperationError | None = None
    for outcome in outcomes:
        if not isinstance(outcome, Exception):
            yield outcome
            continue
        if words is None or outcome is not latest:
            latest, words = outcome, word(outcome)
        yield words


def word(caught: Exception) -> pb.OperationError:
    """Returns the status that a call would have had."""
    error = pb.OperationError()
    if isinstance(caught, CancelledJobError):
        error.code = grpc.StatusCode.CANCELLED.value[0]
        error.message = "the operation was cancelled before it began"
    elif isinstance(caught, LateJobError):
        error.code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        error.message = "the operation did not begin in time"
    else:
        code, error.message, error.reason, metadata = describe("Execute", caught)
        error.code = code.value[0]
        error.metadata.update(metadata)
    return error
