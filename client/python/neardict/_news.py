"""Waiting for something that another thread brings about, though a signal handler may raise meanwhile."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Who notifies may be interrupted between two of those who wait; they look by themselves as often, in seconds.
_LOOK_SECONDS = 0.5


class News:
    """What threading.Condition is, without a lock, which an interrupt in that may leave taken."""

    def __init__(self) -> None:
        self._waiting: dict[queue.SimpleQueue[None], None] = {}

    def notify_all(self) -> None:
        """Has those who wait look again."""
        for one in list(self._waiting):
            one.put(None)

    def wait_for(self, true: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Returns when the condition is true, or the time is over; and whether it is true."""
        end = time.monotonic() + seconds
        news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting[news] = None
        try:
            while not true():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                try:
                    news.get(timeout=min(left, _LOOK_SECONDS))
                except queue.Empty:
                    continue
            return True
        finally:
            self._waiting.pop(news, None)
