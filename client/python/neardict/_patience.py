"""Bounds each wait for a message of a stream, where gRPC has a deadline for the whole only."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc


def patiently(call: Any, seconds: float) -> Iterator[Any]:
    """Yields the messages of a call. Cancels it and raises TimeoutError if one is longer in coming."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        call.cancel()

    while True:
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), give_up)
        timer.daemon = True
        timer.start()
        try:
            message = next(call)
        except StopIteration:
            return
        except grpc.RpcError:
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
        yield message
