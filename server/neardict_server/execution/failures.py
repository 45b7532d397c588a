"""Words why an operation failed, as soon as that is known.

An exception must not wait for its turn to be sent: its traceback holds on to the request, value and all.
"""

from __future__ import annotations

import grpc

from neardict.v1 import storage_pb2 as pb

from ..edge import describe
from .job import CancelledJobError, LateJobError


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
