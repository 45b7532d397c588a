"""Threads of a test, and waiting for what happens in others, always with a deadline."""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from .gate import DEADLINE


class InThread(Protocol):
    def __call__(self, function: Callable[..., Any], *args: Any) -> "Running": ...


class Running:
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._future: Future[Any] = Future()

        def run() -> None:
            try:
                result = function(*args)
            except BaseException as error:
                self._future.set_exception(error)
            else:
                self._future.set_result(result)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self) -> Any:
        return self._future.result(DEADLINE)

    def error(self) -> BaseException | None:
        return self._future.exception(DEADLINE)

    def done(self) -> bool:
        return self._future.done()


def until(condition: Callable[[], Any]) -> Any:
    """Returns the condition's result once it is true."""
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return result


def waits_in(running: Running, function: str) -> bool:
    """Returns whether the thread is inside a function of this name."""
    frame = sys._current_frames().get(running.thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False
