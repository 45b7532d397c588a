"""Calls the service as stubs do, or with bytes that no stub would send; and reads what its errors say."""

from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from waiting import DEADLINE_SECONDS as DEADLINE_SECONDS

SERVICE = "neardict.v1.StorageService"


class Refusal(NamedTuple):
    """What the service answered in place of a result. Without ErrorInfo, `domain` and `reason` are empty."""

    code: grpc.StatusCode
    message: str
    domain: str
    reason: str
    metadata: dict[str, str]


def ask(channel: grpc.Channel, method: str, request: Message | bytes) -> bytes | Refusal:
    """Returns the response's bytes, of all messages if it is a stream, or the refusal."""
    data = request.SerializeToString() if isinstance(request, Message) else request
    shape = channel.unary_stream if method == "AllKeys" else channel.unary_unary
    call: Any = shape(f"/{SERVICE}/{method}")
    try:
        answer = call(data, timeout=DEADLINE_SECONDS)
        return answer if isinstance(answer, bytes) else b"".join(answer)
    except grpc.RpcError as error:
        return refusal(error)


def refusal(error: Any) -> Refusal:
    """Returns what a failed call of either kind of channel says."""
    info = error_details_pb2.ErrorInfo()
    for name, data in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(data)
            # The two places that hold the code and the message must agree.
            assert (status.code, status.message) == (error.code().value[0], error.details())
            for detail in status.details:
                detail.Unpack(info)
    return Refusal(error.code(), error.details() or "", info.domain, info.reason, dict(info.metadata))


def text_field(number: int, data: bytes) -> bytes:
    """Returns a length-delimited field of a message, whatever the bytes are."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
