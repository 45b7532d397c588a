"""A look-up in flight, which several threads wait for."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

from ._news import News


class Flight:
    """What a Future is, without its lock, for which others would wait if an interrupt left it taken."""

    def __init__(self) -> None:
        # The thread that makes it.
        self.leader = threading.get_ident()
        self._news = News()
        self._result: Any = None
        self._error: BaseException | None = None
        self._done = False

    def done(self) -> bool:
        """Returns whether it is over."""
        return self._done

    def set_result(self, result: Any) -> None:
        self._result = result
        self._end()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def cancel(self) -> None:
        """Has those who wait raise CancelledError, unless it is over."""
        if not self._done:
            self.set_exception(CancelledError())

    def result(self) -> Any:
        """Waits for the result. Raises the exception that was set."""
        self._news.wait_for(self.done)
        if self._error is not None:
            raise self._error
        return self._result

    def _end(self) -> None:
        self._done = True
        self._news.notify_all()
