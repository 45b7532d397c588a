"""Knows which calls of a store are under way, so that caches know what may still arrive."""

import contextlib
import threading
from collections.abc import Iterator


class Calls:
    """Numbers the calls as they begin. Thread-safe; its lock is a leaf, taken inside any other."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._latest = 0
        self._open: dict[int, None] = {}  # in the order of their beginning

    @contextlib.contextmanager
    def under_way(self) -> Iterator[int]:
        """Around a call, from before its request goes out until its reply has been taken notice of.

        Gives its number, from 1.
        """
        number = 0
        try:
            number = self.begin()
            yield number
        finally:
            self.end(number)

    def begin(self) -> int:
        """Does what entering `under_way` does: for where many are made, since a context costs more."""
        with self._lock:
            self._latest = number = self._latest + 1
            self._open[number] = None
            return number

    def end(self, number: int) -> None:
        """Does what leaving `under_way` does."""
        with self._lock:
            self._open.pop(number, None)

    def latest(self) -> int:
        """Returns the number of the call that began last."""
        return self._latest

    def oldest(self) -> int:
        """Returns the least number that is under way, or may be in future."""
        with self._lock:
            return next(iter(self._open), self._latest + 1)
