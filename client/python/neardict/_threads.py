"""Waiting for threads of this package."""

import threading


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Waits until the thread has ended, for so long at most.

    Not if it is this one, or has not begun: a signal handler may ask while its thread starts that one.
    """
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(seconds)
