"""Sends the operations of a synchronous store on an Execute stream, from whatever thread they come."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from ._clock import now
from ._pipeline import Pipeline
from ._retries import AGAIN, LOST, UNSUPPORTED
from ._statuses import detached
from ._threads import join, start
from ._where import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._pipeline import Operation
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# What is put into the inbox to have it looked again what is to be sent.
_LOOK: tuple[Operation, ...] = ()


class Executing:
    """One stream at a time, while there is something to do, and a thread that reads it.

    Whoever waits for a result holds no lock that the thread needs, and takes none to send an operation, since
    a signal handler may use the store while the code that it interrupts does. `resume` begins the thread.
    """

    def __init__(
        self,
        open_stream: Callable[[Iterator[pb.ExecuteRequest]], Any],
        tell: Callable[[list[Operation]], None],
    ) -> None:
        """`open_stream` calls the RPC with these requests, and returns the call.

        `tell` is called with operations that are settled, by any thread. It must not block. Neither may
        hold the store, which would never be collected.
        """
        self._open_stream = open_stream
        self._tell = tell
        self._inbox: queue.SimpleQueue[tuple[Operation, ...]] = queue.SimpleQueue()
        # Guards the pipeline, for the two threads of a stream: ours, and gRPC's, which takes the requests.
        self._lock = threading.Lock()
        self._pipeline = Pipeline()
        self._call: Any = None
        self._stopped = False
        self._closed: Exception | None = None
        # The call that was ended since there is a better connection.
        self._renewed: Any = None
        # When something came last, by the monotonic clock.
        self._heard = -math.inf
        # Whether the service has the stream; None if it has not shown it yet.
        self.supported: bool | None = None
        # Whether the last message had results of several operations.
        self._several = False
        # For those who end the thread, or begin it anew.
        self._running = threading.RLock()
        self._thread: threading.Thread | None = None

    def takes(self, operation: Operation) -> bool:
        """Returns whether the operation may be put; if not, it has to be a call of its own."""
        return self.supported is not False and not operation.is_large

    def put(self, *operations: Operation) -> None:
        """Has the operations sent, in this order; or forgotten, if they are abandoned."""
        self._inbox.put(operations)
        if self._closed is not None:
            self._refuse(self._closed)

    def heard(self) -> float:
        """Returns when the service sent something last, by the monotonic clock."""
        return self._heard

    def renew(self) -> None:
        """Begins the stream again, with what has no result: there is another connection. From any thread."""
        # Another peer, or another way to this one, may have the stream.
        self.supported = self.supported or None
        if (call := self._call) is not None:
            self._renewed = call
            call.cancel()

    def pause(self) -> bool:
        """Ends the stream and the thread, until `resume`; returns whether they ran."""
        with self._running:
            self._stopped = True
            thread = self._thread
        if thread is None:
            return False
        self._inbox.put(_LOOK)
        if (call := self._call) is not None:
            call.cancel()
        join(thread)
        with self._running:
            # Not before: another thread that pauses or closes has to wait for it as well.
            if self._thread is thread:
                self._thread = None
        return True

    def resume(self) -> None:
        """Lets the thread run, again."""
        with self._running:
            if self._thread is None and self._closed is None:
                self._stopped = False
                self._thread = threading.Thread(target=self._work, name="neardict execute", daemon=True)
                try:
                    start(self._thread)
                except BaseException:
                    self._thread = None
                    raise

    def close(self, error: Exception) -> None:
        """Ends everything for good: what is under way has this error as its outcome."""
        self._closed = error
        self.pause()
        self._refuse(error)

    def drop(self) -> None:
        """Ends the stream and the thread in a moment: nobody can use them any more.

        For finalizers, which run wherever it may be: takes no lock and waits for nothing.
        """
        self._stopped = True
        self._inbox.put(_LOOK)

    def _refuse(self, outcome: object) -> None:
        """Settles all that is known here and has no result."""
        with self._lock:
            self._add_all()
            refused = self._pipeline.refuse(outcome)
        # A thread waits perhaps for the one that was taken.
        self._inbox.put(_LOOK)
        self._tell(refused)

    def _add_all(self) -> None:
        """Takes in what is in the inbox, and what is to be tried again. The caller holds the lock.

        It may take a _LOOK: what that is about is to be looked at after this, not before.
        """
        with contextlib.suppress(queue.Empty):
            while True:
                self._add(self._inbox.get_nowait())
        self._pipeline.add_due(now())

    def _add(self, operations: tuple[Operation, ...]) -> None:
        """Takes in what came from the inbox. The caller holds the lock."""
        for operation in operations:
            if operation.abandoned:
                self._pipeline.abandon(operation)
            else:
                self._pipeline.add(operation)

    def _get(self, due: float | None) -> tuple[Operation, ...]:
        """Waits for what comes into the inbox, until an operation is due to be tried again."""
        if due is None:
            return self._inbox.get()
        try:
            return self._inbox.get(timeout=max(0.0, due - now()))
        except queue.Empty:
            return _LOOK

    def _work(self) -> None:
        while self._await_operation():
            outcome = self._serve()
            with self._lock:
                ended = self._pipeline.lost(AGAIN if self._stopped else outcome, now())
            self._tell(ended)
            del ended, outcome

    def _await_operation(self) -> bool:
        """Returns when there is something to send, or, with False, when nothing more shall be."""
        while True:
            with self._lock:
                self._add_all()
                if self._stopped:
                    return False
                if self._pipeline.waits:
                    return True
                due = self._pipeline.due
            operations = self._get(due)
            with self._lock:
                self._add(operations)
            del operations

    def _serve(self) -> object:
        """Opens a stream, and reads it to its end. Returns what that means for operations without result."""
        over = threading.Event()
        taking = threading.Lock()
        try:
            self._call = call = self._open_stream(self._requests(over, taking))
            if self._stopped:
                call.cancel()
            for response in call:
                self.supported = True
                self._heard = time.monotonic()
                with self._lock:
                    settled = self._pipeline.received(response, now())
                    # With less of a domain unanswered more can be sent; and what failed is due at some time.
                    look = self._pipeline.waits or self._pipeline.due is not None
                self._several = len(settled) > 1
                self._tell(settled)
                # While the thread waits it holds nobody who waited, and with him his store.
                del settled
                if look:
                    self._inbox.put(_LOOK)
        except grpc.RpcError as error:
            failure = detached(error)
            if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
                self.supported = False
                return UNSUPPORTED
            return AGAIN if self._renewed is not None and self._renewed is self._call else failure
        except Exception as error:
            logger.error("a result could not be taken in, and the stream begins again: %s", where(error))
        finally:
            over.set()
            if self._call is not None:
                self._call.cancel()
                self._call = self._renewed = None
            # So that none but the next stream takes what comes from now on.
            self._inbox.put(_LOOK)
            with taking:
                pass
        return LOST

    def _requests(self, over: threading.Event, taking: threading.Lock) -> Iterator[pb.ExecuteRequest]:
        """Yields what there is to send, in a thread of gRPC, until the stream is over.

        Holds `taking` while it may take something from the inbox.
        """
        while True:
            with taking:
                request = None
                while request is None:
                    if over.is_set():
                        return  # what has come since is of the next stream
                    with self._lock:
                        self._add_all()
                        if over.is_set():
                            return
                        stopped = self._stopped
                        if not stopped:
                            request, given_up = self._pipeline.take(now())
                            due = self._pipeline.due
                    if stopped:
                        # Dropped, maybe, and then nobody else does it.
                        if (call := self._call) is not None:
                            call.cancel()
                        return
                    self._tell(given_up)
                    del given_up
                    if request is None:
                        operations = self._get(due)
                        if over.is_set():
                            self._inbox.put(operations)
                            return
                        with self._lock:
                            self._add(operations)
                        del operations
                        if self._several:
                            self._let_others_put()
            yield request

    def _let_others_put(self) -> None:
        """Lets threads run that are about to put something: what they put goes along.

        They have woken at the results of one message, and so has this thread at what the first of them puts.
        """
        size = -1
        while size < (size := self._inbox.qsize()):
            time.sleep(0)
