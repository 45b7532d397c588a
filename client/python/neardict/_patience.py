"""Bounds each wait for a message of a stream, where gRPC has a deadline for the whole only."""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from ._statuses import without_frames


def patiently(call: Any, seconds: float) -> Iterator[Any]:
    """Yields the messages of a call. Cancels it and raises TimeoutError if one is longer in coming."""
    watchdog = _Watchdog(call, min(seconds, threading.TIMEOUT_MAX))
    watchdog.start()
    try:
        while True:
            watchdog.until = time.monotonic() + seconds
            try:
                message = next(call)
            except StopIteration:
                return
            except grpc.RpcError as error:
                if watchdog.barked:
                    without_frames(error)
                    raise TimeoutError from None
                raise
            # What is done with the message takes as long as it likes.
            watchdog.until = math.inf
            yield message
    finally:
        watchdog.stop()


class _Watchdog(threading.Thread):
    """Cancels a call at the time `until`, by the monotonic clock, which is set anew for each message.

    One thread for a whole listing, as one for each message would cost as much as the messages.
    """

    def __init__(self, call: Any, seconds: float) -> None:
        super().__init__(name="neardict patience", daemon=True)
        self._call = call
        self._seconds = seconds
        self._stopped = threading.Event()
        self.until = math.inf
        self.barked = False

    def stop(self) -> None:
        """Ends the thread, and waits for that."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        # Whatever `until` is set to while this waits is not before the wait is over.
        while not self._stopped.wait(min(self.until - time.monotonic(), self._seconds)):
            if time.monotonic() >= self.until:
                self.barked = True
                self._call.cancel()
                return
