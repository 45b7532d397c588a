"""A near dict that asks the service, synchronously, for what it does not hold."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from . import _requests
from ._contents import MISSING
from ._listing import Listing
from ._near import OUTDATED
from ._observed import ObservedDict
from ._progress import Progress
from .errors import AbsentKeyError, DataLossError, UndecodableValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._progress import OnProgress
    from .store import Store

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)

# With more keys in doubt than this the domain is listed anew.
_MOST_LOOK_UPS = 100


class Flight(Future[Any]):
    """A look-up under way, with the thread that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = threading.get_ident()


class AskingDict(ObservedDict):
    """Looks keys up, and lists the domain; CachedDict is its face."""

    __slots__ = ()

    _store: Store
    _flights: dict[str, Flight]

    def _fetch(self, key: str) -> Any:
        """Returns the value from the service, and holds it; raises AbsentKeyError."""
        value = self._shared_look_up(key)
        if value is MISSING:
            raise AbsentKeyError(key)
        return value

    def _shared_look_up(self, key: str) -> Any:
        """Returns the value, or MISSING; while fresh, concurrent misses of one key share one request."""
        mine = Flight()
        while True:
            try:
                if self._load and not self._listed and self._aside is None:
                    self._read_all()  # a mirror that was reset
                with self._lock:
                    held = dict.get(self, key, MISSING)
                    if held is not MISSING:
                        return held
                    self._counts.misses += 1
                    # One that began before a write is taken away when that becomes known.
                    flight = self._flights.setdefault(key, mine) if self._shares_look_ups() else mine
                if flight is mine:
                    value = self._look_up(key)
                    self._land(key, mine)
                    mine.set_result(value)
                    return value
            except BaseException as error:
                self._land(key, mine)
                # An error of the service is everybody's; an interrupt is of this thread alone.
                if not isinstance(error, Exception):
                    mine.cancel()
                elif not mine.done():
                    mine.set_exception(error)
                raise
            if flight.leader == mine.leader:
                # This is a signal handler, and what it would wait for goes on when it has returned.
                return self._look_up(key)
            try:
                return flight.result()
            except CancelledError:
                continue  # its leader was interrupted

    def _land(self, key: str, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def _look_up(self, key: str) -> Any:
        """Asks the service, holds what it found, and returns the value or MISSING."""
        while True:
            with self._store.changes.calls.under_way() as call:
                value = self._install_reply(key, self._store.lookup(self._domain, key), call)
            if value is not OUTDATED:
                return value

    def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        listing = self._read_all()
        return self._when_whole(lambda: self._copy_listed(listing), listed=True)

    def _load_all(self, on_progress: OnProgress | None = None) -> None:
        """Reads the whole domain, and holds it."""
        self._read_all(on_progress)
        self._when_whole(lambda: None, listed=True)

    def _read_all(self, on_progress: OnProgress | None = None) -> Listing:
        progress = None if on_progress is None else Progress(on_progress)
        calls = self._store.changes.calls
        listing = Listing(calls.begin())
        try:
            request = _requests.all_keys(self._domain, entries=True)
            for page in self._store.pages(request, restart=lambda: listing.begin_again(calls)):
                self._take_page(listing, page)
                if progress is not None:
                    progress.tell(listing.loaded, listing.total)
            self._end_listing(listing)
        finally:
            calls.end(listing.call)
        if progress is not None:
            progress.tell(listing.loaded, listing.loaded)
        return listing

    def _when_whole(self, read: Callable[[], _Result], *, listed: bool = False) -> _Result:
        """Returns what `read` does, called under the lock when the contents are the whole domain.

        They are when the domain was listed and the stream has kept them up to date, or, while it cannot,
        when the domain was listed just now.
        """
        while True:
            with self._lock:
                if (listed or self._shows_all()) and self._is_whole():
                    return read()
                doubtful = list(self._versions.doubtful)
                listing = not self._listed or not (listed or self._shows_all())
            if listing or len(doubtful) > _MOST_LOOK_UPS:
                listed = True
                self._read_all()
            else:
                self._settle(doubtful)

    def _settle(self, doubtful: list[str]) -> None:
        """Looks up what failed writes have left in doubt."""
        for key in doubtful:
            try:
                self._look_up(key)
            except (DataLossError, UndecodableValueError) as error:
                logger.warning("the entry %r of the domain %r is left out: %s", key, self._domain, error)
                with self._lock:
                    self._versions.doubtful.pop(key, None)
                    self._unreadable |= {key}
