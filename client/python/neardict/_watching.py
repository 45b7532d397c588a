"""Drives the Watch stream of a synchronous store, with two threads that end with it."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
from typing import TYPE_CHECKING, Any

import grpc

from ._session import PING_SECONDS, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# Between attempts to open a stream: longer each time, and never two clients in step.
FIRST_PAUSE = 0.05  # seconds
LONGEST_PAUSE = 2.0
# For so long, in seconds, one who closes waits for the service to hear that leases are given back.
FAREWELL_SECONDS = 0.5


class Watching:
    """One thread opens streams and reads them, another sends pings and gives up streams that are silent."""

    def __init__(self, session: Session, open_stream: Callable[[Iterator[pb.WatchRequest]], Any]) -> None:
        """`open_stream` calls the RPC Watch with the requests, and returns the call."""
        self._session = session
        self._open_stream = open_stream
        self._closed = False
        # Of the threads that run now.
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._call: Any = None
        self._threads: list[threading.Thread] = []
        # What is to be sent on the stream; None ends this side of it.
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Starts the threads, if they do not run yet."""
        with self._lock:
            if not self._threads and not self._closed:
                self._stop = threading.Event()
                self._threads = [
                    threading.Thread(target=work, args=(self._stop,), name=f"neardict {name}", daemon=True)
                    for name, work in (("watch", self._read), ("ping", self._tick))
                ]
                for thread in self._threads:
                    thread.start()

    def pause(self) -> bool:
        """Ends the stream and the threads, until `start` is called; returns whether they ran."""
        self._stop.set()
        with self._lock:
            call, threads, self._threads = self._call, self._threads, []
        if self._session.leave() and threads and threading.current_thread() is not threads[0]:
            # Nobody need wait for what was leased here, if the service hears that it is given back.
            self._requests.put(None)
            threads[0].join(FAREWELL_SECONDS)
        if call is not None:
            call.cancel()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        return bool(threads)

    def close(self) -> None:
        """Ends the stream and the threads for good."""
        self._closed = True
        self._session.close()
        self.pause()

    def _read(self, stop: threading.Event) -> None:
        longest = FIRST_PAUSE
        while not stop.is_set():
            requests = self._requests = queue.SimpleQueue()
            call = self._open_stream(iter(requests.get, None))
            with self._lock:
                self._call = call
            if stop.is_set():
                call.cancel()
            try:
                self._session.opened(requests.put)
                for message in call:
                    longest = FIRST_PAUSE
                    self._session.received(message)
            except grpc.RpcError as error:
                logger.debug("the watch stream has ended: %s", error.code())
            except Exception:
                # Whatever it was, some change has not been applied: only a new stream mends that.
                logger.exception("a change could not be applied: the stream begins again")
            finally:
                self._session.lost()
                call.cancel()
                requests.put(None)
            stop.wait(random.uniform(0, longest))  # noqa: S311  # no secret
            longest = min(2 * longest, LONGEST_PAUSE)

    def _tick(self, stop: threading.Event) -> None:
        wait: float | None = PING_SECONDS
        while not stop.wait(PING_SECONDS if wait is None else wait):
            wait = self._session.tick()
            if wait is None:
                with self._lock, contextlib.suppress(AttributeError):
                    self._call.cancel()
