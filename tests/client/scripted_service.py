"""A service in the test's own process that answers whatever the test wants: nonsense, if need be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc

from neardict.v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SERVICE = "neardict.v1.StorageService"
UNARY: dict[str, Any] = {
    "GetValue": pb.GetValueRequest,
    "SetValue": pb.SetValueRequest,
    "DeleteKey": pb.DeleteKeyRequest,
    "GetServerInfo": pb.GetServerInfoRequest,
}
RPC = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}
REVISION = 1_000


def entry(name: str, /, **fields: Any) -> pb.Entry:
    """Returns a good entry, but for these fields."""
    given: dict[str, Any] = {"key": name, "value": pb.Value(json="1"), "revision": REVISION} | fields
    return pb.Entry(**given)


class ScriptedService:
    """Serves at `address`. `answers` maps an RPC to what answers its request; without one it answers well.

    An answer is a message, bytes, or, for a stream, an iterable of them; or the function raises FailedError.
    For `Execute` it is given an operation and returns a response. For `Watch` it is given the number of the
    stream, and returns what is sent, once, after the first heartbeat. `streams` counts the streams of Watch,
    and `ended` listings and values in chunks that are over.
    With `stream=False` there is no Execute, as in older services.
    """

    def __init__(self, *, stream: bool = True) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.streams = 0
        self.calls: list[str] = []
        self.ended = 0
        self._over = threading.Event()
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name), kind.FromString, _bytes)
            for name, kind in UNARY.items()
        }
        handlers["AllKeys"] = grpc.unary_stream_rpc_method_handler(
            self._listing("AllKeys"), pb.AllKeysRequest.FromString, _bytes
        )
        handlers["ReadValue"] = grpc.unary_stream_rpc_method_handler(
            self._listing("ReadValue"), pb.ReadValueRequest.FromString, _bytes
        )
        handlers["WriteValue"] = grpc.stream_unary_rpc_method_handler(
            self._write_value, pb.WriteValueRequest.FromString, _bytes
        )
        handlers["Watch"] = grpc.stream_stream_rpc_method_handler(
            self._watch, pb.WatchRequest.FromString, _bytes
        )
        if stream:
            handlers["Execute"] = grpc.stream_stream_rpc_method_handler(
                self._execute, pb.ExecuteRequest.FromString, _bytes
            )
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._server.stop(None).wait(20)

    def good(self, name: str, request: Any) -> Any:
        """Returns what a good service answers: the domain has the one entry `k`."""
        if name == "GetValue":
            found = request.key == "k"
            return pb.GetValueResponse(
                found=found, entry=entry("k") if found else None, domain_revision=REVISION
            )
        if name == "SetValue":
            return pb.SetValueResponse(revision=REVISION + 1)
        if name == "DeleteKey":
            return pb.DeleteKeyResponse(existed=True, revision=REVISION + 1)
        if name == "AllKeys":
            if request.include_entries:
                return [pb.AllKeysResponse(domain_revision=REVISION, entries=[entry("k")])]
            return [pb.AllKeysResponse(domain_revision=REVISION, keys=["k"])]
        if name == "ReadValue":
            empty = entry("k", value=pb.Value(json=""))
            answer = pb.GetValueResponse(found=True, entry=empty, domain_revision=REVISION)
            return [
                pb.ReadValueResponse(head=pb.ReadValueHead(answer=answer, size=1)),
                pb.ReadValueResponse(chunk=b"1"),
            ]
        limits = pb.Limits(max_value_bytes=1024 * 1024, max_message_value_bytes=1024 * 1024)
        return pb.GetServerInfoResponse(version="1", limits=limits, compressions=[pb.COMPRESSION_ZSTD])

    def _answer(self, name: str, request: Any) -> Any:
        self.calls.append(name)
        answer = self.answers.get(name)
        return self.good(name, request) if answer is None else answer(request)

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return self._answer(name, request)
            except FailedError as failed:
                failed.abort(context)

        return unary

    def _listing(self, name: str) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def listing(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from self._answer(name, request)
            except FailedError as failed:
                failed.abort(context)
            finally:
                self.ended += 1

        return listing

    def _write_value(self, requests: Iterable[pb.WriteValueRequest], context: grpc.ServicerContext) -> Any:
        context.send_initial_metadata((("upload", "welcome"),))
        for request in requests:
            assert request.WhichOneof("part")
        answer = self.answers.get("WriteValue")
        try:
            return pb.WriteValueResponse(revision=REVISION + 1) if answer is None else answer(None)
        except FailedError as failed:
            failed.abort(context)

    def _execute(self, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            for operation in request.operations:
                if (script := self.answers.get("Execute")) is not None:
                    yield script(operation)
                    continue
                kind = operation.WhichOneof("operation")
                result = pb.OperationResult(number=operation.number)
                answer = self._answer(RPC[kind], getattr(operation, kind))
                getattr(result, kind).CopyFrom(answer)
                yield pb.ExecuteResponse(results=[result])

    def _watch(self, requests: Iterator[pb.WatchRequest], context: grpc.ServicerContext) -> Iterator[Any]:
        self.streams += 1
        number, told = self.streams, False
        for request in requests:
            if request.HasField("subscribe"):
                subscribed = pb.Subscribed(domain=request.subscribe.domain, revision=REVISION)
                yield pb.WatchResponse(subscribed=subscribed)
            elif request.HasField("ping"):
                yield pb.WatchResponse(heartbeat=pb.Heartbeat(ping=request.ping.number))
                if not told and (script := self.answers.get("Watch")) is not None:
                    told = True
                    yield from script(number)


class FailedError(Exception):
    """What a script raises to have a call fail."""

    def __init__(self, code: grpc.StatusCode, *metadata: tuple[str, str | bytes]) -> None:
        super().__init__(code.name)
        self._code = code
        self._metadata = metadata

    def abort(self, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(self._metadata)
        context.abort(self._code, "as the test wants it")


def _bytes(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
