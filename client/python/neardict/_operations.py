"""Single operations as messages of an Execute stream, and what comes back, for both clients. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import grpc

from . import _statuses
from ._pipeline import LARGEST_BYTES
from ._retries import LOST, UNSUPPORTED
from .errors import ServiceError, UnavailableError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["get_value", "set_value", "delete_key"]

# The RPC that does the same as a call of its own.
RPC: dict[Kind, str] = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}

_WORD: dict[Kind, Callable[[Any], pb.Operation]] = {
    "get_value": lambda request: pb.Operation(get_value=request),
    "set_value": lambda request: pb.Operation(set_value=request),
    "delete_key": lambda request: pb.Operation(delete_key=request),
}


def word(kind: Kind, request: Any) -> tuple[pb.Operation, int] | None:
    """Returns the message, and its size in bytes; None if it is too large for a stream."""
    size = request.ByteSize()
    return None if size > LARGEST_BYTES else (_WORD[kind](request), size)


def response(kind: Kind, outcome: Any, target: str) -> Any:
    """Returns the response of the operation's RPC, or None if it has to be called; raises what went wrong.

    `outcome` is as `Executing` returns it. Errors come without context: gRPC's is not the user's business.
    """
    if isinstance(outcome, pb.OperationResult):
        which = outcome.WhichOneof("result")
        if which == kind:
            return getattr(outcome, kind)
        if which == "error":
            raise _statuses.failed(outcome.error, target) from None
        raise ServiceError(f"{target} answered out of contract: a result of another kind than the operation")
    if outcome is UNSUPPORTED:
        return None
    if outcome is LOST:
        raise UnavailableError(f"{target}, or what is between, ends each stream at once: try again")
    if isinstance(outcome, grpc.RpcError):
        raise _statuses.to_error(outcome, target) from None
    raise outcome from None
