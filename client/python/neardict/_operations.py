"""Single operations as messages of an Execute stream, and what comes back, for both clients. No I/O."""

from __future__ import annotations

from typing import Any, Literal

import grpc

from . import _compression, _replies, _requests, _retries, _statuses, values
from ._pipeline import LARGEST_BYTES, Operation
from ._request_ids import new_request_id
from ._retries import LOST, UNSUPPORTED
from .errors import NeardictError, UnavailableError
from .v1 import storage_pb2 as pb

Kind = Literal["get_value", "set_value", "delete_key"]

# The RPC that does the same as a call of its own.
RPC: dict[Kind, str] = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}

# What an operation has beside its request: number, time, tags and lengths.
_OVERHEAD = 32
# What a write has beside its names and its value: request id, tags and lengths.
_REST = 96


class _GetValue(Operation):
    __slots__ = ()

    writes = False

    def fill(self, message: pb.Operation) -> None:
        request = message.get_value
        request.domain = self.domain
        request.key = self.key
        if self.accept:
            request.accept = self.accept


class _SetValue(Operation):
    """Stores JSON text, or bytes, without conditions."""

    __slots__ = ("request_id", "value")

    request_id: str
    value: str | bytes

    def fill(self, message: pb.Operation) -> None:
        request = message.set_value
        request.domain = self.domain
        request.key = self.key
        request.request_id = self.request_id
        if isinstance(self.value, str):
            request.value.json = self.value
        else:
            request.value.raw = self.value


class _Request(Operation):
    """Makes a request that has been worded. It must not be changed any more."""

    __slots__ = ("given", "kind", "writes")

    given: Any
    kind: Kind

    def fill(self, message: pb.Operation) -> None:
        getattr(message, self.kind).CopyFrom(self.given)

    def request(self, kind: str) -> Any:
        return self.given


def get_value(domain: str, key: str, accept: pb.Compression) -> Operation:
    """Returns the operation that looks the key up."""
    _requests.check_names(domain, key)
    # At most. To ask protobuf for the exact number takes as long as all the rest.
    operation = _GetValue(domain, key, _OVERHEAD + 4 * (len(domain) + len(key)))
    operation.accept = accept
    return operation


def set_value(
    domain: str,
    key: str,
    value: Any,
    *,
    ttl: _requests.Ttl = None,
    if_revision: int | None = None,
    if_absent: bool = False,
) -> Operation:
    """Returns the operation that stores the value."""
    if ttl is not None or if_revision is not None or if_absent:
        request = _requests.set_value(
            domain, key, values.encode(value), ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return word("set_value", request)
    _requests.check_names(domain, key)
    stored: str | bytes = value if type(value) is bytes else values.to_text(value)
    length = len(stored) if isinstance(stored, bytes) or stored.isascii() else len(stored.encode())
    operation = _SetValue(domain, key, _OVERHEAD + _REST + 4 * (len(domain) + len(key)) + length)
    operation.value = stored
    operation.request_id = new_request_id()
    return operation


def word(kind: Kind, request: Any) -> Operation:
    """Returns the operation that makes the request, which is of its RPC, and is not changed any more."""
    size = _OVERHEAD + request.ByteSize()
    if kind == "set_value" and request.value.WhichOneof("kind") in _compression.KINDS:
        # The service looks into it aside, which its streams cannot wait for.
        size = max(size, LARGEST_BYTES + 1)
    operation = _Request(request.domain, request.key, size)
    operation.given = request
    operation.kind = kind
    operation.writes = kind != "get_value"
    if kind == "get_value":
        operation.accept = request.accept
    return operation


def response(kind: Kind, operation: Operation, outcome: Any, target: str) -> Any:
    """Returns the response of the operation's RPC, or None if it has to be called; raises what went wrong.

    `outcome` is as `Executing` returns it. Errors come without context: gRPC's is not the user's business.
    """
    if isinstance(outcome, pb.OperationResult):
        if outcome.HasField(kind):
            # What would come compressed from a call is not sent on a stream.
            return checked(kind, operation, getattr(outcome, kind), target)
        if not outcome.HasField("error"):
            raise _replies.protocol_error(target, "returned a result of the wrong type")
    elif outcome is UNSUPPORTED:
        return None
    error = _failure(outcome, target)
    raise (_retries.unsafe(error) if operation.limited else error) from None


def late(operation: Operation, target: str) -> NeardictError:
    """Returns the error for an operation whose time is over: what came of its last attempt, if it has one.

    If another was in flight its answer is missing, and the error says both.
    """
    last = None if operation.last is None else _failure(operation.last, target)
    if last is None or operation.in_flight:
        return _retries.late(_statuses.too_late(target), last)
    return last


def _failure(outcome: Any, target: str) -> NeardictError:
    if isinstance(outcome, pb.OperationResult):
        return _statuses.failed(outcome.error, target)
    if outcome is LOST:
        return UnavailableError(f"{target}, or what is between, ends each stream at once: try again")
    if isinstance(outcome, grpc.RpcError):
        return _statuses.to_error(outcome, target)
    error: NeardictError = outcome
    return error


def checked(kind: Kind, operation: Operation, answer: Any, target: str, accept: int = 0) -> Any:
    """Returns the response of the operation's RPC, if it may be one. Raises ServiceError.

    `accept` is how a value in it may be compressed.
    """
    if answer is None:
        problem = "sent an answer that cannot be read"  # grpc.aio has logged it
    elif kind == "get_value":
        problem = _replies.lookup_problem(answer, operation.key, accept)
    elif kind == "set_value":
        problem = _replies.written_problem(answer)
    else:
        problem = _replies.deleted_problem(answer)
    if problem:
        raise _replies.protocol_error(target, problem)
    return answer
