"""A gRPC server in front of a real one, that holds a call back until the test lets it go.

With it an interleaving is written down as a test, and needs no sleep: hold a reply, do what is to come
first, release it.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc

from neardict.v1 import storage_pb2 as pb
from waiting import DEADLINE_SECONDS

from .gated_stream import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = DEADLINE_SECONDS
SERVICE = "neardict.v1.StorageService"

REQUESTS: dict[str, Any] = {
    "GetValue": pb.GetValueRequest,
    "SetValue": pb.SetValueRequest,
    "DeleteKey": pb.DeleteKeyRequest,
    "AllKeys": pb.AllKeysRequest,
    "GetServerInfo": pb.GetServerInfoRequest,
}


class Hold:
    """One call that is held back. A context manager: in the end it goes on in any case."""

    def __init__(self, method: str, key: str, at: str, pages: int, skip: int) -> None:
        self.method = method
        self.key = key
        self.at = at
        self.pages = pages
        self.skip = skip
        self._reached = threading.Event()
        self._released = threading.Event()
        self.ended = threading.Event()
        self.status: grpc.StatusCode | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def wait(self) -> None:
        """Waits until the call has come to where it is held."""
        assert self._reached.wait(DEADLINE), f"no {self.method} of {self.key!r} came to its {self.at}"

    def finish(self) -> None:
        """Lets the call go on and waits until the service has done it, whether or not anybody listens."""
        self.release()
        assert self.ended.wait(DEADLINE)

    def fits(self, method: str, key: str) -> bool:
        """Returns whether this call is the one; counts those to be skipped."""
        if self.method not in ("", method) or self.key not in ("", key):
            return False
        self.skip -= 1
        return self.skip < 0

    def release(self) -> None:
        """Lets the call go on."""
        self._released.set()

    def fail(self, status: grpc.StatusCode) -> None:
        """Ends the call with this status, whatever the service has done."""
        self.status = status
        self._released.set()

    def stop(self, context: grpc.ServicerContext) -> None:
        """Where the call is held; in a thread of the gate's server."""
        self._reached.set()
        self._released.wait(DEADLINE)
        if self.status is not None:
            context.abort(self.status, "as the test wants it")


class Fault(NamedTuple):
    """How a call is disturbed: its reply comes later, or it ends with a status, applied or not."""

    delay: float = 0.0  # seconds
    status: grpc.StatusCode | None = None
    applied: bool = True


class Gate:
    """Serves at `address` what the service at `target` answers. `calls` is what was asked, in order.

    An operation on a stream is a call of its RPC here too. Listings of entries are passed on with one entry
    in each page, so that there are places between. `faults`, if set, is asked for each unary call how to
    disturb it. `revisions` is which revision each value was written with, and `deletions` those of each
    key's deletions, known to the client or not.
    """

    def __init__(self, target: str) -> None:
        self._upstream: Any = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        self._server = grpc.server(
            ThreadPoolExecutor(64),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self.calls: list[tuple[str, Any]] = []
        self.faults: Callable[[], Fault] = Fault
        self.revisions: dict[str, int] = {}
        self.deletions: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            for hold in self._holds:
                hold.release()
        self._server.stop(None).wait(DEADLINE)
        self._upstream.close()

    def hold(
        self, method: str = "", key: str = "", *, at: str = "reply", pages: int = 0, skip: int = 0
    ) -> Hold:
        """Holds back the next call of the method, and the key if one is given, after `skip` others.

        `at="request"`: before the service sees it; `at="reply"`: after the service has done it. A listing
        is held back when so many pages have been passed on.
        """
        hold = Hold(method, key, at, pages, skip)
        with self._lock:
            self._holds.append(hold)
        return hold

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def take(self, method: str, data: bytes) -> Hold | None:
        request = REQUESTS[method].FromString(data)
        key = getattr(request, "key", "")
        with self._lock:
            self.calls.append((method, request))
            for hold in self._holds:
                if hold.fits(method, key):
                    self._holds.remove(hold)
                    return hold
        return None

    def unary(self, method: str, data: bytes, context: grpc.ServicerContext) -> bytes:
        hold = self.take(method, data)
        try:
            return self._pass(method, data, context, hold)
        finally:
            if hold is not None:
                hold.ended.set()

    def _pass(self, method: str, data: bytes, context: grpc.ServicerContext, hold: Hold | None) -> bytes:
        fault = self.faults()
        if hold is not None and hold.at == "request":
            hold.stop(context)
        if fault.status is not None and not fault.applied:
            context.abort(fault.status, "as the test wants it")
        try:
            reply: bytes = self._upstream.unary_unary(f"/{SERVICE}/{method}")(data, timeout=DEADLINE)
        except grpc.RpcError as error:
            _pass_on(error, context)
            raise
        self._take_notice(method, data, reply)
        if fault.delay:
            time.sleep(fault.delay)
        if fault.status is not None:
            context.abort(fault.status, "as the test wants it")
        if hold is not None and hold.at == "reply":
            hold.stop(context)
        return reply

    def _take_notice(self, method: str, data: bytes, reply: bytes) -> None:
        with self._lock:
            if method == "SetValue":
                value = pb.SetValueRequest.FromString(data).value.json
                self.revisions[value] = pb.SetValueResponse.FromString(reply).revision
            elif method == "DeleteKey":
                key, deleted = (
                    pb.DeleteKeyRequest.FromString(data).key,
                    pb.DeleteKeyResponse.FromString(reply),
                )
                if deleted.existed:
                    self.deletions.setdefault(key, []).append(deleted.revision)

    def stream(self, method: str, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        hold = self.take(method, data)
        if hold is not None:
            hold.ended.set()  # it changes nothing
        passed = 0
        if hold is not None and hold.at == "request":
            hold.stop(context)
            hold = None
        try:
            for page in self._upstream.unary_stream(f"/{SERVICE}/{method}")(data, timeout=DEADLINE):
                for part in _parts(pb.AllKeysResponse.FromString(page)):
                    if hold is not None and passed == hold.pages:
                        hold.stop(context)
                    passed += 1
                    yield part.SerializeToString()
            if hold is not None and passed <= hold.pages:
                hold.stop(context)
        except grpc.RpcError as error:
            _pass_on(error, context)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method.rpartition("/")[2]
        if method == "AllKeys":
            return grpc.unary_stream_rpc_method_handler(
                lambda data, context: self._gate.stream(method, data, context)
            )
        if method == "Execute":
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: execute(requests, self._gate.unary, context.add_callback)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda data, context: self._gate.unary(method, data, context)
        )


def _parts(page: pb.AllKeysResponse) -> Iterator[pb.AllKeysResponse]:
    if len(page.entries) < 2:
        yield page
        return
    for entry in page.entries:
        yield pb.AllKeysResponse(domain_revision=page.domain_revision, entries=[entry])
    if page.unreadable_keys:
        yield pb.AllKeysResponse(domain_revision=page.domain_revision, unreadable_keys=page.unreadable_keys)


def _pass_on(error: Any, context: grpc.ServicerContext) -> None:
    context.set_trailing_metadata(error.trailing_metadata() or ())
    context.abort(error.code(), error.details())
