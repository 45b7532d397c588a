"""A wall clock of a process's own, which can be set while the machine's, which others use, stays as it is."""

from __future__ import annotations

import sys
import time

_SECOND = 1_000_000_000


class WallClock:
    """What `time.time` and `time.time_ns` say once it is installed: the machine's clock, and `ahead` seconds.

    Not to gRPC, whose C core adds deadlines to the machine's clock: where that is set, both change together.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self._true_ns = time.time_ns

    def install(self) -> None:
        """Begins. To be called before anything is imported that may keep the functions themselves."""
        time.time = self._time
        time.time_ns = self._time_ns

    def _time(self) -> float:
        return self._seen_by(sys._getframe(1).f_globals.get("__name__", "")) / _SECOND

    def _time_ns(self) -> int:
        return self._seen_by(sys._getframe(1).f_globals.get("__name__", ""))

    def _seen_by(self, module: str) -> int:
        ahead = 0.0 if module.partition(".")[0] == "grpc" else self.ahead
        return self._true_ns() + round(ahead * _SECOND)
