"""The one place where a gRPC status becomes an error of ours."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from . import _outages, _proxies, errors
from ._replies import REVISIONS_END, protocol_error
from .v1 import storage_pb2 as pb

# A service that asks for more is asked again all the same.
_LONGEST_DELAY = 30.0

_SIMPLE: dict[grpc.StatusCode, type[errors.NeardictError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceededError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
    grpc.StatusCode.UNAUTHENTICATED: errors.PermissionDeniedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
}


def to_error(error: grpc.RpcError, target: str) -> errors.NeardictError:
    """Returns the error to raise for a failed call to `target`."""
    code = error.code()
    info, delay = _error_info(error)
    found = _error(code, error.details() or code.name, info.reason, dict(info.metadata), target)
    if isinstance(found, errors.UnavailableError):
        found._retry_delay = delay
    return found


def renewed(target: str) -> errors.UnavailableError:
    """Returns the error for a call that another connection is to carry, as its own has been given up."""
    return errors.UnavailableError(
        f"the connection to neardict at {target} was silent, or its service has moved: try again"
    )


def is_of_closed_channel(error: ValueError) -> bool:
    """Returns whether that is what gRPC raises for a call on a channel that has been closed."""
    return str(error).startswith("Cannot invoke RPC")


def without_frames(error: grpc.RpcError) -> grpc.RpcError:
    """Returns the error without its traceback, to be used wherever one is caught.

    It may be the call itself, and its frames hold that: garbage that is perhaps collected as late as at the
    end of the process. There gRPC waits for ever for a lock that a thread had when it ceased to be.
    """
    return error.with_traceback(None)


class Failure(grpc.RpcError):
    """How a call has failed, without the call: to be looked at, and collected, in any thread.

    What gRPC raises may be the call itself, which takes a lock to say how it ended and when it is collected.
    """

    def __init__(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        super().__init__(code, details)
        self._code = code
        self._details = details
        self._trailing_metadata = trailing_metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing_metadata


def detached(error: Any) -> Failure:
    """Returns how the call has failed that raised this; not to be called where a signal handler may raise."""
    if isinstance(error, Failure):
        return error
    without_frames(error)
    # Not its debug_error_string, for which gRPC waits for ever where a call was cancelled here.
    return Failure(error.code(), error.details() or "", error.trailing_metadata() or ())


def rejected(message: pb.Rejected, target: str) -> errors.NeardictError:
    """Returns the error to raise for a subscription that `target` rejected, as for a call that failed."""
    code = _code(message.code)
    return _error(code, message.message or code.name, message.reason, {}, target)


def failed(message: pb.OperationError, target: str) -> errors.NeardictError:
    """Returns the error to raise for an operation on a stream that failed, as for a call that failed."""
    code = _code(message.code)
    return _error(code, message.message or code.name, message.reason, dict(message.metadata), target)


def is_refused(error: grpc.RpcError) -> bool:
    """Returns whether a call, or a stream, has ended so that nothing of it can have been sent."""
    unanswered = error.code() is grpc.StatusCode.UNAVAILABLE and not reason(error)
    return unanswered and _outages.is_refused(error.details() or "")


def _code(number: int) -> grpc.StatusCode:
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)


def _error(
    code: grpc.StatusCode, message: str, reason: str, metadata: dict[str, str], target: str
) -> errors.NeardictError:
    if not reason and (answered := _proxies.explained(message, target)) is not None:
        return answered
    if code is grpc.StatusCode.ABORTED:
        current = metadata.get("current_revision", "0")
        # Not by int alone, which takes what is no revision, and raises what is nobody's error.
        if not _is_revision(current):
            return protocol_error(target, "told of a conflict with a current_revision that is no revision")
        return errors.ConflictError(message, reason=reason, current_revision=int(current))
    if code is grpc.StatusCode.UNAVAILABLE:
        # With a reason it is the service that answers, of its backend; without one nothing answered.
        if reason:
            return errors.UnavailableError(message, reason=reason)
        unavailable = errors.UnavailableError(
            f"cannot reach neardict at {target}: {_outages.plain(message)}. Start it with `neardict serve`, "
            "or name where it runs: connect(target), --target, or NEARDICT_TARGET"
        )
        unavailable._is_refused = _outages.is_refused(message)
        return unavailable
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return too_late(target)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        if reason:
            capability = metadata.get("capability", "")
            return errors.CapabilityMissingError(message, reason=reason, capability=capability)
        return errors.ServiceError(f"{target} does not serve neardict.v1, or an older one: {message}")
    if code is grpc.StatusCode.CANCELLED:
        return errors.UnavailableError(
            f"{target}, or what is between, cancelled the call: try again", reason=reason
        )
    kind = _SIMPLE.get(code, errors.ServiceError)
    if kind is errors.InvalidArgumentError:
        return errors.InvalidArgumentError(message, reason=reason, field=metadata.get("field", ""))
    return kind(message, reason=reason)


def _is_revision(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) < REVISIONS_END


def too_late(target: str) -> errors.DeadlineExceededError:
    """Returns the error for an answer that did not come in time."""
    return errors.DeadlineExceededError(
        f"deadline exceeded: neardict at {target} did not respond in time. Raise `timeout`, or check the "
        "service"
    )


def reason(error: grpc.RpcError) -> str:
    """Returns the reason that the service gives for a failed call; "" if it is not from the service."""
    info, _ = _error_info(error)
    given: str = info.reason
    return given


def _error_info(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo, float]:
    """Returns what the service says of the error, and for how many seconds it wants to be left alone."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    metadata: Any = error.trailing_metadata() or ()  # pairs, whatever the stubs say
    try:
        for name, data in metadata:
            if name == "grpc-status-details-bin":
                status = status_pb2.Status.FromString(data)
                for detail in status.details:
                    if detail.Is(info.DESCRIPTOR):
                        detail.Unpack(info)
                    elif detail.Is(retry.DESCRIPTOR):
                        detail.Unpack(retry)
    except DecodeError:
        # The status counts all the same; but not what it would mean without details.
        return error_details_pb2.ErrorInfo(metadata={"current_revision": "unknown"}), 0.0
    delay = retry.retry_delay
    # Not its own conversion, which raises for what is none. Nobody is to wait for ever.
    return info, min(max(0.0, delay.seconds + delay.nanos / 1e9), _LONGEST_DELAY)
