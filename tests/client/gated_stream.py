"""An Execute stream of the gate: each of its operations is passed on as a call of its own."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.rpc import error_details_pb2, status_pb2

from neardict.v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}


class _AbortedError(Exception):
    pass


class OperationContext:
    """Stands for a call's context: its status becomes the error of one operation."""

    def __init__(self) -> None:
        self.error = pb.OperationError()

    def set_trailing_metadata(self, metadata: Any) -> None:
        for name, data in metadata:
            if name == "grpc-status-details-bin":
                info = error_details_pb2.ErrorInfo()
                for detail in status_pb2.Status.FromString(data).details:
                    if detail.Unpack(info):
                        self.error.reason = info.reason
                        self.error.metadata.update(info.metadata)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.error.code = code.value[0]
        self.error.message = details
        raise _AbortedError


def execute(
    requests: Iterator[bytes],
    call: Callable[[str, bytes, Any], bytes],
    over: Callable[[Callable[[], None]], Any],
) -> Iterator[bytes]:
    """Yields responses until the client's side has ended. `over` takes what to call when the stream ends."""
    results: queue.SimpleQueue[pb.OperationResult | None] = queue.SimpleQueue()

    def carry_out(operation: pb.Operation) -> None:
        kind = operation.WhichOneof("operation")
        assert kind is not None
        context = OperationContext()
        result = pb.OperationResult(number=operation.number)
        try:
            reply = call(METHODS[kind], getattr(operation, kind).SerializeToString(), context)
            getattr(result, kind).MergeFromString(reply)
            getattr(result, kind).SetInParent()
        except ValueError:
            return  # the gate has been closed
        except (_AbortedError, grpc.RpcError):
            result.error.CopyFrom(context.error)
        results.put(result)

    def read() -> None:
        try:
            for data in requests:
                for operation in pb.ExecuteRequest.FromString(data).operations:
                    threading.Thread(target=carry_out, args=(operation,), daemon=True).start()
        except Exception:
            pass  # the client has gone
        finally:
            results.put(None)

    over(lambda: results.put(None))
    threading.Thread(target=read, daemon=True).start()
    while (result := results.get()) is not None:
        yield pb.ExecuteResponse(results=[result]).SerializeToString()
