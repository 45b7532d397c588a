"""Reads the Watch stream of a store, synchronous or not, with a thread that can be ended before a fork."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from . import _channel
from ._backoff import Backoff
from ._statuses import without_frames
from ._threads import join
from ._where import where
from .errors import ServiceError
from .v1 import storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# Between attempts to open a stream.
BACKOFF = Backoff(0.05, 2.0)
# A stream that has lasted for so long, in seconds, since its first message, was a good one: the next attempt
# comes soon. Those that end sooner, as where nobody understands them, come at longer and longer intervals.
_LASTED = 1.0
# For so long, in seconds, one who ends a stream waits for the service to hear that leases are given back.
FAREWELL_SECONDS = 0.5
# The name under which a process that serves says, on each stream of changes, which one it is.
INSTANCE = "neardict-instance"
# With these, trying again helps only when somebody has changed something.
_LASTING = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
}


class Receiver(Protocol):
    """Is told of streams by the thread that reads them. What `Session` says of these holds here too."""

    def opened(self, send: Callable[[pb.WatchRequest], None]) -> None: ...

    def received(self, message: pb.WatchResponse) -> None: ...

    def lost(self) -> None: ...


class Line:
    """Opens streams, each on a connection of its own.

    So nothing large stands before its messages, and no stream is opened on the connection of the one
    before, which may have gone silent: gRPC would do that until it notices, after a quarter of a minute.
    """

    def __init__(
        self, settings: _channel.Settings, came_up: Callable[[bool], None] = lambda moved: None
    ) -> None:
        """`came_up` is called, by any thread, when a stream is answered.

        It is told whether by another peer than the one before.
        """
        self.target = settings.target
        self._settings = settings
        self._came_up = came_up
        self._peer: str | None = None
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._closed = False

    def open(self, requests: Iterator[pb.WatchRequest]) -> Any:
        """Calls the RPC Watch with these requests, and returns the call. Ends the one before.

        After `close` the call is cancelled.
        """
        self._end()
        channel = _channel.connect(self._settings)
        call = storage_pb2_grpc.StorageServiceStub(channel).Watch(requests)
        # Nobody else knows it before: gRPC crashes where a stub is made of a channel that is being closed
        # (https://github.com/grpc/grpc/pull/43455).
        with self._lock:
            self._channel = channel
        if self._closed:
            self._end()
        return call

    def answered(self, call: Any) -> None:
        """The service has answered on the stream: looks who does."""
        peer = next((value for name, value in call.initial_metadata() or () if name == INSTANCE), None)
        before, self._peer = self._peer, peer or self._peer
        self._came_up(before not in (None, self._peer))

    def close(self) -> None:
        """Ends the stream and its connection for good. From any thread."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


class Reading:
    """A thread that opens a stream, tells the receiver what it brings, and opens another, until `end`."""

    def __init__(self, receiver: Receiver, line: Line) -> None:
        self._receiver = receiver
        self._line = line
        self.stopped = threading.Event()
        self.dropped = False
        self._warned = False
        # What was said last of what could not be applied: once is enough, while it stays so.
        self._complaint = ""
        self._lock = threading.Lock()
        self._call: Any = None
        # What is to be sent on the stream; None ends this side of it.
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="neardict watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drop(self) -> None:
        """Ends the thread after the next `give_up`: for finalizers, since this takes no lock."""
        self.dropped = True

    def give_up(self) -> None:
        """Ends the stream that is open now."""
        with self._lock:
            if self._call is not None:
                self._call.cancel()

    def end(self, leave: Callable[[], bool]) -> None:
        """Ends the stream and the thread; `leave` is called once no other stream will be opened.

        It returns whether it has sent what the service should hear before.
        """
        self.stopped.set()
        if leave():
            self._requests.put(None)
            join(self._thread, FAREWELL_SECONDS)
        self.give_up()
        join(self._thread)

    def _ended(self, error: grpc.RpcError) -> None:
        logger.debug("the watch stream has ended: %s", error.code())
        if error.code() in _LASTING and not self._warned:
            self._warned = True
            logger.warning(
                "%s does not tell of changes, so that its dicts ask for every read: %s, %s",
                self._line.target,
                error.code().name,
                error.details(),
            )

    def complain(self, error: Exception) -> None:
        """Says that something the stream has brought could not be applied, unless that was said before."""
        what = str(error) if isinstance(error, ServiceError) else where(error)
        if what != self._complaint:
            self._complaint = what
            logger.error(
                "a change from %s could not be applied, and the stream begins again: %s",
                self._line.target,
                what,
            )

    def _over(self) -> bool:
        return self.dropped or self.stopped.is_set()

    def _read(self) -> None:
        failures = 0
        while not self._over():
            requests = self._requests = queue.SimpleQueue()
            began = math.inf
            try:
                call = self._line.open(iter(requests.get, None))
                with self._lock:
                    self._call = call
                if self._over():
                    call.cancel()
                self._receiver.opened(requests.put)
                for number, message in enumerate(call):
                    began = min(began, time.monotonic())
                    if number == 0:
                        self._line.answered(call)
                    self._receiver.received(message)
            except grpc.RpcError as error:
                self._ended(without_frames(error))
            except Exception as error:
                # Whatever it was, some change has not been applied: only a new stream mends that.
                self.complain(error)
            finally:
                self._receiver.lost()
                self.give_up()
                requests.put(None)
            if time.monotonic() - began >= _LASTED:
                failures = 0
            failures += 1
            self.stopped.wait(BACKOFF.wait(failures))
        if self.dropped:
            self._line.close()
