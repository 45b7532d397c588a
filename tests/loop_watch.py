"""Serves in a thread of its own, and tells how long the server's event loop was kept by one callback.

In processor time of that thread: what others do on the machine does not count, nor other threads.
"""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from neardict_server.app import serving
from neardict_server.config import Config
from waiting import DEADLINE_SECONDS

# Nobody waits for longer than this behind one callback.
MOST_SECONDS = 0.05


class LoopWatch:
    """`address` is the server's; `longest` the seconds of the longest callback, and `what` it was."""

    def __init__(self) -> None:
        self.address = ""
        self.longest = 0.0
        self.what = ""

    def begin(self) -> None:
        """Forgets what was measured."""
        self.longest, self.what = 0.0, ""

    def took(self, seconds: float, handle: object) -> None:
        """Takes notice of a callback."""
        if seconds > self.longest:
            self.longest, self.what = seconds, repr(handle)


@contextmanager
def watching(config: Config) -> Iterator[LoopWatch]:
    """Serves while the context lasts."""
    watch = LoopWatch()
    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(config, watch, ready, over)))
    original: Callable[[Any], None] = asyncio.Handle._run

    def run(handle: Any) -> None:
        if threading.current_thread() is not thread:
            original(handle)
            return
        began = time.thread_time()
        original(handle)
        watch.took(time.thread_time() - began, handle)

    # What the tests before have left is not the server's, and to look through it takes a third of a second.
    gc.collect()
    gc.freeze()
    with mock.patch.object(asyncio.Handle, "_run", run):
        thread.start()
        try:
            if not ready.wait(DEADLINE_SECONDS):
                raise TimeoutError("the server did not start")
            watch.begin()
            yield watch
        finally:
            over.set()
            thread.join()
            gc.unfreeze()


async def _serve(config: Config, watch: LoopWatch, ready: threading.Event, over: threading.Event) -> None:
    async with serving(config) as server:
        watch.address = server.address
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.02)
