"""Tells callbacks of changes: never under a lock, never in the thread that reads the stream."""

from __future__ import annotations

import enum
import logging
import queue
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from . import _callbacks
from ._threads import start
from ._where import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._changes import Change

logger = logging.getLogger(__name__)

# How long `close` waits for a callback that is under way.
_CLOSE_SECONDS = 5.0


class Marker(enum.Enum):
    """What a callback gets in place of a value."""

    ABSENT = "absent"
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return f"neardict.{self.name}"


#: The key was deleted, or has expired.
ABSENT: Final[Literal[Marker.ABSENT]] = Marker.ABSENT
#: The key was written, but its value is too large to travel with the change, or does not fit its class.
UNKNOWN: Final[Literal[Marker.UNKNOWN]] = Marker.UNKNOWN


class Observed(Protocol):
    def value_of(self, change: Change) -> Any:
        """Returns what the change has made of its key, or a Marker."""
        ...


class Schedule(Protocol):
    def __call__(self, work: Callable[[], None]) -> object:
        """Arranges for the work to be done soon, elsewhere, after what was scheduled before."""
        ...


class Observer:
    """One registration of `on_change`; `cancel` ends it. A context manager, which cancels at its end."""

    def __init__(
        self,
        cache: Observed,
        on_change: Callable[[str, Any, int], object],
        on_reset: Callable[[], object] | None,
        schedule: Schedule,
    ) -> None:
        _callbacks.check("the callback of on_change", on_change)
        if on_reset is not None:
            _callbacks.check("on_reset", on_reset)
        # It holds this.
        self._cache = weakref.ref(cache)
        self._on_change = on_change
        self._on_reset = on_reset
        self._schedule = schedule
        # Guards all below; a leaf.
        self._lock = threading.Lock()
        # What waits to be told: the last change of each key, and under None a reset, in their order.
        self._waiting: OrderedDict[str | None, Change | None] = OrderedDict()
        self._scheduled = False
        self.cancelled = False
        # The revision of the last change that was noticed, by which repetitions are told.
        self._noticed = 0

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Ends the calls, except one that is under way. May be repeated."""
        with self._lock:
            self.cancelled = True
            self._waiting.clear()

    def notice(self, change: Change) -> None:
        """Has the change told; for the dict, in the order of revisions."""
        if change.revision > self._noticed:
            self._noticed = change.revision
            self._wait(change.key, change)

    def reset(self) -> None:
        """Has told that changes may be missing; for the dict."""
        self._noticed = 0
        self._wait(None, None)

    def _wait(self, key: str | None, change: Change | None) -> None:
        with self._lock:
            if self.cancelled:
                return
            # Where callbacks cannot keep up, an earlier change of the key is not told any more.
            self._waiting.pop(key, None)
            self._waiting[key] = change
            if self._scheduled:
                return
            self._scheduled = True
        self._schedule(self._tell)

    def _tell(self) -> None:
        """Tells one change, so that others get their turn, and arranges for the next."""
        with self._lock:
            if not self._waiting:
                self._scheduled = False
                return
            _, change = self._waiting.popitem(last=False)
        try:
            if change is None:
                if self._on_reset is not None:
                    self._on_reset()
            elif (cache := self._cache()) is not None:
                self._on_change(change.key, cache.value_of(change), change.revision)
        except Exception as error:
            logger.error(
                "a callback of on_change raised %s; it is called for later changes all the same", where(error)
            )
        finally:
            self._schedule(self._tell)


class Teller:
    """One thread for all callbacks of a store, started with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def schedule(self, work: Callable[[], None]) -> None:
        """Does the work in the thread, after what was scheduled before; nothing after `close`."""
        self._work.put(work)
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(target=self._run, name="neardict callbacks", daemon=True)
                    try:
                        start(self._thread)
                    except BaseException:
                        self._thread = None
                        raise

    def close(self) -> None:
        """Ends the thread; what has not been told yet is not told any more."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._work.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_SECONDS)
            if thread.is_alive():
                logger.warning(
                    "a callback of on_change has not returned %g seconds after close", _CLOSE_SECONDS
                )

    def drop(self) -> None:
        """Ends the thread in a moment. For finalizers, which run wherever it may be: takes no lock."""
        self._closed = True
        self._work.put(None)

    def forked(self) -> None:
        """In the child of a fork there is no thread, and locks may be held by one that is gone."""
        self.__init__()  # type: ignore[misc]  # to be as new
        self._closed = True

    def _run(self) -> None:
        while not self._closed:
            work = self._work.get()
            if work is None:
                return
            try:
                work()
            except BaseException as error:
                # Such as SystemExit, which ends a thread, but must not end the other callbacks.
                logger.error("a callback of on_change raised %s", type(error).__name__)
