"""SIGTERM and Ctrl-C tell a server to stop."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Yields an event that the signals set; on leaving, when all is closed, they are ignored from then on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in NUMBERS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        # Were the loop to take its handlers away, a second signal would end the process with an error
        # while the interpreter is on its way out.
        for number in NUMBERS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
