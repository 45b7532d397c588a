"""One connection to each service, shared by all storages of the process.

Dicts learn of each other's writes through their store, so that those of one process must share it.
"""

import atexit
import os
import threading
import weakref

from .._channel import resolve_target
from ..store import Store


class Connection:
    """Keeps its store open for as long as somebody holds the connection.

    A store that nobody holds ends by itself. It is not closed here then: the garbage collector may run in any
    thread, even in one that closing waits for.
    """

    def __init__(self, target: str) -> None:
        self.store = Store(target)


class _Connections:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakValueDictionary[str, Connection] = weakref.WeakValueDictionary()

    def to(self, target: str) -> Connection:
        with self._lock:
            connection = self._open.get(target)
            if connection is None:
                connection = self._open[target] = Connection(target)
            return connection

    def leave(self) -> None:
        """Ends their streams when the interpreter exits. What the program does then can write."""
        for connection in list(self._open.values()):
            connection.store.leave()


_connections = _Connections()


def connection_to(target: str | None) -> Connection:
    """Returns the process's connection to the target; None is NEARDICT_TARGET, else localhost:50051."""
    return _connections.to(resolve_target(target))


@atexit.register
def _at_exit() -> None:
    _connections.leave()


def _after_fork() -> None:
    # Those of the parent are closed here, and another thread may have held the lock.
    global _connections
    _connections = _Connections()


os.register_at_fork(after_in_child=_after_fork)
