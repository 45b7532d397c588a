"""Runs the callbacks of `on_change` on the event loop."""

import asyncio
from collections.abc import Callable


class LoopTeller:
    """Does one piece of work in each turn of the loop, between the turns of others."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def schedule(self, work: Callable[[], None]) -> None:
        """Does the work soon; nothing after `close`."""
        if not self._closed:
            self._loop.call_soon(self._do, work)

    def close(self) -> None:
        """What has not been told yet is not told any more."""
        self._closed = True

    def _do(self, work: Callable[[], None]) -> None:
        if not self._closed:
            work()
