"""Threads of this package: begun whole, and waited for, though a signal handler may raise at any moment.

Python runs signal handlers in the main thread, between any two steps, and what they raise goes on from there.
`threading.Thread.start`, Event and Condition are written in Python, as are gRPC's calls: interrupted between
two of their steps they leave a lock taken for which the other thread waits for ever. What C does is done
whole or not at all: a lock's `acquire`, `SimpleQueue`, `start_new_thread`, an RLock in a `with`. So the main
thread does that alone, and has the rest done in another, where no handler runs.
"""

from __future__ import annotations

import _thread
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

# So often `finish` tries to have a thread, before it does the work in this one.
_ATTEMPTS = 3


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Waits until the thread has ended, for so long at most.

    Not if it is this one, or has not begun: a signal handler may ask while its thread starts that one.
    """
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(seconds)


def start(thread: threading.Thread) -> None:
    """Starts the thread, which has begun, or will have, whatever interrupts this."""
    if threading.current_thread() is not threading.main_thread():
        thread.start()
        return
    started: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            thread.start()
        except Exception as error:
            started.put(error)
        else:
            started.put(None)

    # Not a Thread, whose `start` this stands in for.
    _thread.start_new_thread(run, ())
    error = started.get()
    if error is not None:
        raise error


def aside(work: Callable[[], _Result]) -> _Result:
    """Returns what the work does, and raises what it raises. No signal handler runs in it.

    In the main thread, where one may, another thread does the work. What a handler raises then ends the wait
    for it, and the work goes on by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: queue.SimpleQueue[tuple[_Result, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    thread = threading.Thread(target=run, name="neardict aside", daemon=True)
    try:
        start(thread)
    except RuntimeError:
        # There can be no more threads, or the interpreter exits.
        return work()
    result, error = done.get()
    join(thread)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # it has one where it has no error


def finish(work: Callable[[], object]) -> None:
    """Does the work aside, and waits until it is done, also if a handler raises; raises that afterwards."""
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    claim = threading.Lock()
    outcome: list[BaseException | None] = []
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run() -> None:
        if claim.acquire(blocking=False):
            try:
                work()
            except BaseException as error:
                outcome.append(error)
            else:
                outcome.append(None)
            done.put(None)

    raised: BaseException | None = None
    begun, attempts = False, 0
    while not outcome:
        try:
            if not begun:
                attempts += 1
                if attempts > _ATTEMPTS:
                    run()
                else:
                    thread = threading.Thread(target=run, name="neardict aside", daemon=True)
                    _thread.start_new_thread(thread.start, ())
                begun = True
            done.get()
        except BaseException as interrupt:
            # If it came between two of these steps, the work is claimed, and done, once all the same.
            raised = interrupt
    raised = outcome[0] or raised
    if raised is not None:
        raise raised


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
