"""What becomes of stores when the process forks: none of them may be used in the child."""

import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from ._threads import finish
from ._where import where
from .errors import ClosedError

logger = logging.getLogger(__name__)


class Store(Protocol):
    # Whether it has to be paused in the thread that forks.
    of_loop: bool

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
    token = object()
    try:
        begin(token)
        yield
    finally:
        end(token)


def begin(token: object) -> None:
    """Does what entering `call` does: for where many are made, since a context costs more.

    The token is the caller's own, so that an interrupt finds it.
    """
    _calls[token] = None


def end(token: object) -> None:
    """Does what leaving `call` does."""
    _calls.pop(token, None)


def _before() -> None:
    frame = sys._getframe(1)
    _forking.acquire()
    _prune(frame)
    if frame in _forks:
        return  # the hook is there twice
    _forks.append(frame)
    if len(_forks) == 1:
        finish(lambda: _pause([store for store in list(_stores) if not store.of_loop]))
        # In this thread, which may be the loop's.
        _pause([store for store in list(_stores) if store.of_loop])


def _pause(stores: list[Store]) -> None:
    global _lost_if_child
    raised: BaseException | None = None
    for store in stores:
        # Before it is, so that it is resumed wherever an interrupt comes.
        _paused.append(store)
        try:
            paused = store.pause()
        except BaseException as error:
            # Ctrl-C, for one, which Python prints and forgets here. What has been left is done now.
            raised, paused = error, store.pause()
        if not paused:
            _paused.remove(store)
    _lost_if_child = bool(_calls)
    if raised is not None:
        raise raised


def _after_in_parent() -> None:
    frame = sys._getframe(1)
    _forking.acquire()
    _prune(frame)
    if frame in _forks:
        del _forks[_forks.index(frame) :]
    if not _forks:
        if _paused:
            finish(_resume)
        while _forking._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
            _forking.release()


def _resume() -> None:
    while _paused:
        store = _paused[-1]
        try:
            store.resume()
        except Exception as error:
            logger.error("a store does not go on after a fork: %s", where(error))
        _paused.remove(store)


def _prune(frame: FrameType) -> None:
    """Forgets forks that are over, though an interrupt came before that could be noted."""
    calling = set()
    caller: FrameType | None = frame
    while caller is not None:
        calling.add(caller)
        caller = caller.f_back
    _forks[:] = [fork for fork in _forks if fork in calling]


def _after_in_child() -> None:
    global _lost, _forking
    _forking = threading.RLock()
    _forks.clear()
    _lost = _lost or _lost_if_child
    _calls.clear()
    _paused.clear()
    for store in list(_stores):
        store.forked()


# From before a fork until after it: of two threads at once one would forget what the other has paused.
_forking = threading.RLock()
# The frames that call os.fork, one within the other. A frame, and not a count, since an interrupt may come in
# the first steps of a hook, which Python then leaves out.
_forks: list[FrameType] = []
_paused: list[Store] = []
_lost_if_child = False
# The hooks of the parent twice: what one signal leaves out is done by the second.
os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
os.register_at_fork(before=_before, after_in_parent=_after_in_parent)
