"""Waiting for threads of this package, and in threads of others."""

import contextlib
import threading


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Waits until the thread has ended, for so long at most.

    Not if it is this one, or has not begun: a signal handler may ask while its thread starts that one.
    """
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(seconds)


class Naps:
    """Waits of threads that `end` cuts short, for good.

    A lock for each, which nobody takes who might be interrupted while he has it: a signal handler may close
    the store whose call it interrupts.
    """

    def __init__(self) -> None:
        self._locks: dict[threading.Lock, None] = {}
        self._over = False

    def wait(self, seconds: float) -> None:
        """Returns when the time is over, or at once after `end`."""
        lock = threading.Lock()
        lock.acquire()
        self._locks[lock] = None
        try:
            if not self._over:
                lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._locks.pop(lock, None)

    def end(self) -> None:
        """Ends all waits, those to come too."""
        self._over = True
        for lock in list(self._locks):
            with contextlib.suppress(RuntimeError):  # its wait has just ended
                lock.release()
