"""A near dict that asks the service, synchronously, for what it does not hold."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _requests
from ._near import MISSING, Listing, NearDict
from .errors import AbsentKeyError

if TYPE_CHECKING:
    from .store import Store


class AskingDict(NearDict):
    """Looks keys up, and lists the domain; CachedDict is its face."""

    __slots__ = ()

    _store: Store
    _flights: dict[str, Future[Any]]

    def _held_whole(self) -> bool:
        """Returns whether the contents are the whole domain; reads it again if a mirror lost its place."""
        if not self._load:
            return False
        if not self._whole:
            self._list()
        return True

    def _fetch(self, key: str) -> Any:
        """Returns the value from the service, and holds it; raises AbsentKeyError."""
        while True:
            with self._lock:
                held = dict.get(self, key, MISSING)
                if held is not MISSING:
                    return held
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = Future()
            if not mine:
                value = flight.result()
                if value is MISSING:
                    raise AbsentKeyError(key)
                return value
            try:
                value = self._look_up(key)
            except BaseException as error:
                self._land(key, flight)
                flight.set_exception(error)
                raise
            self._land(key, flight)
            flight.set_result(value)
            if value is MISSING:
                raise AbsentKeyError(key)
            return value

    def _land(self, key: str, flight: Future[Any]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def _look_up(self, key: str) -> Any:
        """Asks the service, holds what it found, and returns the value or MISSING."""
        with self._store.changes.calls.under_way():
            return self._install_reply(key, self._store.lookup(self._domain, key))

    def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        listing = Listing(self._doubts)
        with self._store.changes.calls.under_way():
            for page in self._store.pages(_requests.all_keys(self._domain, entries=True)):
                self._take_page(listing, page)
            return self._end_listing(listing)
