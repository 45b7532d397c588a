"""Many calls at once: a window of them is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from .errors import BulkError, ClosedError, DeadlineExceededError, NeardictError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# How many calls of a bulk operation are under way at once.
WINDOW = 128

# After these the calls that have not begun would wait as long for nothing: they fail with the same error.
HOPELESS = (ClosedError, DeadlineExceededError, UnavailableError)


def bulk(
    requests: Mapping[str, Any],
    begin: Callable[[Any], Any],
    to_error: Callable[[Any], NeardictError],
    *,
    answered: Callable[[str, Any], None] = lambda key, answer: None,
    failed: Callable[[str, BaseException], None] = lambda key, error: None,
) -> dict[str, Any]:
    """Makes the calls and returns the answers by key; raises BulkError if some failed.

    `begin` returns the gRPC future of a request. `answered` is told of each answer, `failed` of each call
    that began and did not succeed; what is under way when an interrupt ends it all is cancelled.
    """
    answers: dict[str, Any] = {}
    failures: dict[str, NeardictError] = {}
    # In the order in which they began. Noted before that, and let go after the answer has been told, so that
    # an interrupt finds here whatever may have been applied without anybody knowing.
    under_way: dict[str, Any] = {}
    hopeless: NeardictError | None = None

    def take() -> NeardictError | None:
        key, future = next(iter(under_way.items()))
        error = None
        try:
            answers[key] = future.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            failures[key] = error = to_error(future)
            failed(key, error)
        else:
            answered(key, answers[key])
        del under_way[key]
        return error

    try:
        for key, request in requests.items():
            if len(under_way) == WINDOW and isinstance(error := take(), HOPELESS):
                hopeless = error
            if hopeless is None:
                under_way[key] = None
                try:
                    under_way[key] = begin(request)
                except ClosedError as error:
                    del under_way[key]
                    hopeless = error
            if hopeless is not None:
                failures[key] = hopeless
        while under_way:
            take()
    except BaseException as error:
        for key, future in under_way.items():
            if future is not None:
                future.cancel()
            failed(key, error)
        raise
    if failures:
        raise BulkError(failures, len(requests))
    return answers
