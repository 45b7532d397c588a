"""Event loops and threads: in which one this is, and work that an event loop must not wait for."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_Told = TypeVar("_Told")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Returns the event loop of this thread, None if none runs here."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_loop(work: Callable[[_Told], object]) -> Callable[[_Told], None]:
    """Returns what has the loop that runs here do the work, with what it is told, from any thread."""
    loop = asyncio.get_running_loop()

    def schedule(told: _Told) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(work, told)

    return schedule


async def in_thread(work: Callable[[], object], *, name: str) -> None:
    """Returns when the work is done. Cancelled, it leaves the work to end by itself.

    Not asyncio.to_thread, whose threads may all be taken by the program's own work.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    await ended.wait()
    thread.join()
