"""An operation of a synchronous store that is under way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ._pipeline import milliseconds
from ._retries import AGAIN, pause_after

if TYPE_CHECKING:
    from ._executing import Executing
    from ._pipeline import Operation


class Pending:
    """Has been sent, and has a `result`, which can be had once."""

    def __init__(self, executing: Executing, operation: Operation, seconds: float) -> None:
        """`executing` must have been given `tell`."""
        self._executing = executing
        self._operation = operation
        self._deadline = time.monotonic() + seconds
        operation.message.timeout_milliseconds = milliseconds(seconds)
        operation.waiter = threading.Lock()
        operation.waiter.acquire()
        executing.put(operation)

    def result(self) -> Any:
        """Waits for the outcome, and tries again where that helps. Raises TimeoutError.

        Returns a pb.OperationResult, the grpc.RpcError with which the last stream has ended, LOST,
        UNSUPPORTED, or the error given to `Executing.close`.
        """
        operation = self._operation
        attempt = 0
        try:
            while True:
                seconds = self._deadline - time.monotonic()
                if not operation.waiter.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
                    raise TimeoutError
                attempt += operation.outcome is not AGAIN
                pause = pause_after(operation.outcome, attempt, self._deadline - time.monotonic())
                if pause is None:
                    return operation.outcome
                time.sleep(pause)
                self._executing.put(operation)
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self._operation.abandoned = True
        self._executing.put(self._operation)


def tell(settled: list[Operation]) -> None:
    """Wakes those who wait for these."""
    for operation in settled:
        operation.waiter.release()
