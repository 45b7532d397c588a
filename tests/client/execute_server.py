"""A service in the test's own process, of which the test decides how Execute goes. It keeps what is set."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc

from neardict.v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = "neardict.v1.StorageService"
REQUESTS: dict[str, Any] = {
    "GetValue": pb.GetValueRequest,
    "SetValue": pb.SetValueRequest,
    "DeleteKey": pb.DeleteKeyRequest,
}


class ExecuteServer:
    """Serves at `address`. `serve` is the RPC Execute; without one there is none, as in older services.

    `streams` counts how often it was called, `messages` is what was received on streams, by `read` and
    `answer`; `calls` are the unary calls; `applied` is how often each write was carried out, by request_id.
    """

    def __init__(self, serve: Any = None) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self.values: dict[tuple[str, str], pb.Value] = {}
        self.applied: dict[str, int] = {}
        self.calls: list[str] = []
        self.streams = 0
        self.messages: list[pb.ExecuteRequest] = []
        # Threads are slow: gRPC would cancel some of a bulk's calls, at random, while 1,000 wait to be taken.
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 10_000),
            ("grpc.server.max_pending_requests_hard_limit", 20_000),
        ]
        self._server = grpc.server(ThreadPoolExecutor(32), options=options)
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(name),
                request_deserializer=request.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, request in REQUESTS.items()
        }
        if serve is not None:
            handlers["Execute"] = grpc.stream_stream_rpc_method_handler(
                self._execute,
                request_deserializer=pb.ExecuteRequest.FromString,
                response_serializer=pb.ExecuteResponse.SerializeToString,
            )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.stop(None).wait(20)

    def read(self, requests: Iterator[pb.ExecuteRequest]) -> Iterator[pb.ExecuteRequest]:
        """Yields the messages, and takes notice of them."""
        for message in requests:
            with self._lock:
                self.messages.append(message)
            yield message

    def answer(self, message: pb.ExecuteRequest) -> pb.ExecuteResponse:
        """Carries the operations out."""
        return pb.ExecuteResponse(results=[self.carry_out(operation) for operation in message.operations])

    def carry_out(self, operation: pb.Operation) -> pb.OperationResult:
        kind = operation.WhichOneof("operation")
        assert kind is not None
        name = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}[kind]
        fields: Any = {kind: self._do(name, getattr(operation, kind))}
        return pb.OperationResult(number=operation.number, **fields)

    @property
    def operations(self) -> list[pb.Operation]:
        """What was received on streams."""
        return [operation for message in list(self.messages) for operation in message.operations]

    @property
    def cancelled(self) -> set[int]:
        return {number for message in list(self.messages) for number in message.cancelled_numbers}

    def _execute(self, requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ExecuteResponse]:
        with self._lock:
            self.streams += 1
        yield from self._serve(self, requests, context)

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            with self._lock:
                self.calls.append(name)
            return self._do(name, request)

        return unary

    def _do(self, name: str, request: Any) -> Any:
        where = (request.domain, request.key)
        with self._lock:
            if name == "GetValue":
                value = self.values.get(where)
                if value is None:
                    return pb.GetValueResponse()
                return pb.GetValueResponse(
                    found=True, entry=pb.Entry(key=request.key, value=value, revision=1)
                )
            times = self.applied[request.request_id] = self.applied.get(request.request_id, 0) + 1
            if name == "SetValue":
                if times == 1:
                    self.values[where] = request.value
                return pb.SetValueResponse(revision=1)
            return pb.DeleteKeyResponse(existed=self.values.pop(where, None) is not None, revision=1)


def plain(
    server: ExecuteServer, requests: Any, context: grpc.ServicerContext
) -> Iterator[pb.ExecuteResponse]:
    """Answers each message at once."""
    for message in server.read(requests):
        if message.operations:
            yield server.answer(message)


def error(number: int, code: grpc.StatusCode, **fields: Any) -> pb.OperationResult:
    """Returns the result of an operation that failed."""
    failure = pb.OperationError(code=code.value[0], message="as the test wants it", **fields)
    return pb.OperationResult(number=number, error=failure)
