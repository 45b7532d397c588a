"""What becomes of stores when the process forks: none of them may be used in the child."""

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

from ._where import where
from .errors import ClosedError

logger = logging.getLogger(__name__)


class Store(Protocol):
    def pause(self) -> bool:
        """Ends its streams, for the time of a fork; returns whether to call `resume` after it."""
        ...

    def resume(self) -> None:
        """Called in the parent, after the fork, if there was."""
        ...

    def forked(self) -> None:
        """Called in the child, where its connection must not be touched."""
        ...


_stores: weakref.WeakSet[Store] = weakref.WeakSet()
# A token for each call under way. One operation of a dict is atomic.
_calls: dict[object, None] = {}
# Whether there were any when this process was forked from its parent.
_lost = False


def check() -> None:
    """Raises ClosedError in a process where gRPC may hang, beyond any deadline.

    There its locks may have been held, at the fork, by threads that are no more.
    """
    if _lost:
        raise ClosedError(
            "this process was forked while calls of its parent were under way, which gRPC does not survive: "
            "start it before the parent connects, or by spawn (multiprocessing.get_context('spawn'))"
        )


def follow(store: Store) -> None:
    """Lets the store know of forks from now on, while it lives."""
    _stores.add(store)


@contextlib.contextmanager
def call() -> Iterator[None]:
    """Around what uses gRPC."""
    token = begin()
    try:
        yield
    finally:
        end(token)


def begin() -> object:
    """Does what entering `call` does: for where many are made, since a context costs more."""
    token = object()
    _calls[token] = None
    return token


def end(token: object) -> None:
    """Does what leaving `call` does."""
    _calls.pop(token, None)


def _before() -> None:
    global _depth, _lost_if_child
    _forking.acquire()
    _depth += 1
    if _depth > 1:
        return  # one within another, by a signal handler or another hook
    raised: BaseException | None = None
    for store in list(_stores):
        try:
            paused = store.pause()
        except BaseException as error:
            # Ctrl-C, for one, which Python prints and forgets here. What has been left is done now.
            raised, paused = error, store.pause()
        if paused:
            _paused.append(store)
    _lost_if_child = bool(_calls)
    if raised is not None:
        raise raised


def _after_in_parent() -> None:
    global _depth
    _depth -= 1
    raised: BaseException | None = None
    try:
        while not _depth and _paused:
            store = _paused.pop()
            try:
                store.resume()
            except Exception as error:
                logger.error("a store does not go on after a fork: %s", where(error))
            except BaseException as error:
                # Ctrl-C: the store goes on all the same, and so shall the others.
                raised = error
    finally:
        _forking.release()
    if raised is not None:
        raise raised


def _after_in_child() -> None:
    global _lost, _forking, _depth
    _forking = threading.RLock()
    _depth = 0
    _lost = _lost or _lost_if_child
    _calls.clear()
    _paused.clear()
    for store in list(_stores):
        store.forked()


# From before a fork until after it: of two threads at once one would forget what the other has paused.
_forking = threading.RLock()
# How many forks are under way, one within the other.
_depth = 0
_paused: list[Store] = []
_lost_if_child = False
os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
