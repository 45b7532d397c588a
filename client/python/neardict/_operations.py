"""Single operations as messages of an Execute stream, and what comes back, for both clients. No I/O."""

from __future__ import annotations

from typing import Any, Literal

import grpc

from . import _requests, _statuses, values
from ._pipeline import LARGEST_BYTES, Operation
from ._retries import LOST, UNSUPPORTED
from .errors import ServiceError, UnavailableError
from .v1 import storage_pb2 as pb

Kind = Literal["get_value", "set_value", "delete_key"]

# The RPC that does the same as a call of its own.
RPC: dict[Kind, str] = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}

_COMPRESSED = ("json_zstd", "raw_zstd")
# What an operation has beside its request: number, time, tags and lengths.
_OVERHEAD = 32
# What a write has beside its names and its value: request id, time to live, condition, tags and lengths.
_REST = 128


def get_value(domain: str, key: str, accept: pb.Compression) -> Operation:
    """Returns the operation that looks the key up."""
    _requests.check_text("domain", domain)
    _requests.check_text("key", key)
    # At most. To ask protobuf for the exact number takes as long as all the rest.
    return Operation(domain, None, _OVERHEAD + 4 * (len(domain) + len(key)), key=key, accept=accept)


def set_value(domain: str, key: str, value: Any, **conditions: Any) -> tuple[Operation, pb.SetValueRequest]:
    """Returns the operation that stores the value, and its request; conditions as for `_requests`."""
    message = pb.Operation()
    request = message.set_value
    _requests.fill_set_value(request, domain, key, **conditions)
    values.encode_into(value, request.value)
    return Operation(domain, message, _size(request)), request


def word(kind: Kind, request: Any) -> Operation:
    """Returns the operation that makes the request, which is of its RPC."""
    message = pb.Operation()
    getattr(message, kind).CopyFrom(request)
    size = _size(request) if kind == "set_value" else _OVERHEAD + request.ByteSize()
    return Operation(request.domain, message, size)


def _size(request: pb.SetValueRequest) -> int:
    """Returns about how many bytes it takes, and not less."""
    text = request.value.json
    if text and text.isascii():
        # To ask protobuf for the exact number takes as long as all the rest.
        return _OVERHEAD + _REST + 4 * (len(request.domain) + len(request.key)) + len(text)
    size = _OVERHEAD + request.ByteSize()
    if request.value.WhichOneof("kind") in _COMPRESSED:
        # The service looks into it aside, which its streams cannot wait for.
        return max(size, LARGEST_BYTES + 1)
    return size


def response(kind: Kind, outcome: Any, target: str) -> Any:
    """Returns the response of the operation's RPC, or None if it has to be called; raises what went wrong.

    `outcome` is as `Executing` returns it. Errors come without context: gRPC's is not the user's business.
    """
    if isinstance(outcome, pb.OperationResult):
        if outcome.HasField(kind):
            return getattr(outcome, kind)
        if outcome.HasField("error"):
            raise _statuses.failed(outcome.error, target) from None
        raise ServiceError(f"{target} answered out of contract: a result of another kind than the operation")
    if outcome is UNSUPPORTED:
        return None
    if outcome is LOST:
        raise UnavailableError(f"{target}, or what is between, ends each stream at once: try again")
    if isinstance(outcome, grpc.RpcError):
        raise _statuses.to_error(outcome, target) from None
    raise outcome from None
