"""An operation of a synchronous store that is under way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ._clock import now

if TYPE_CHECKING:
    from ._executing import Executing
    from ._pipeline import Operation


# Each time something is sent another thread wants to run.
_SENT_TOGETHER = 128


class Pending:
    """Has been sent, and has a `result`, which can be had once."""

    def __init__(
        self,
        executing: Executing,
        operation: Operation,
        seconds: float,
        unsent: list[Operation] | None = None,
    ) -> None:
        """`executing` must have been given `tell`. With no time at all nothing is sent.

        With `unsent` it is put there, and sent with the others when they are some, or one is waited for.
        """
        self._executing = executing
        self._unsent = unsent
        self._operation = operation
        operation.begin(now(), seconds)
        self.deadline = time.monotonic() + seconds
        operation.waiter = threading.Lock()
        operation.waiter.acquire()
        if seconds <= 0:
            return
        if unsent is None:
            executing.put(operation)
            return
        unsent.append(operation)
        if len(unsent) >= _SENT_TOGETHER:
            send(executing, unsent)

    def result(self) -> Any:
        """Waits for the outcome. Raises TimeoutError.

        Returns a pb.OperationResult, the grpc.RpcError with which the last stream has ended, LOST,
        UNSUPPORTED, or the error given to `Executing.close`.
        """
        operation = self._operation
        if self._unsent and operation.waiter.locked():
            send(self._executing, self._unsent)
        try:
            seconds = self.deadline - time.monotonic()
            if not operation.waiter.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
                raise TimeoutError
        except BaseException:
            self.cancel()
            raise
        return operation.outcome

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self._operation.abandoned = True
        self._executing.put(self._operation)


def send(executing: Executing, unsent: list[Operation]) -> None:
    """Sends what was put there."""
    executing.put(*unsent)
    unsent.clear()


def tell(settled: list[Operation]) -> None:
    """Wakes those who wait for these."""
    for operation in settled:
        operation.waiter.release()
