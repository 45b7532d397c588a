"""A near dict that asks the service, synchronously, for what it does not hold."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _requests
from ._near import MISSING, OUTDATED, Listing, NearDict
from .errors import AbsentKeyError, DataLossError, UndecodableValueError

if TYPE_CHECKING:
    from .store import Store


class AskingDict(NearDict):
    """Looks keys up, and lists the domain; CachedDict is its face."""

    __slots__ = ()

    _store: Store
    _flights: dict[str, Future[Any]]

    def _held_whole(self) -> bool:
        """Returns whether the contents are the whole domain, after asking for what a mirror lacks."""
        if not self._load or self._aside is not None:
            return False
        if not self._whole:
            self._list()
        self._learn()
        return self._aside is None

    def _fetch(self, key: str) -> Any:
        """Returns the value from the service, and holds it; raises AbsentKeyError."""
        while True:
            if self._load and not self._whole and self._aside is None:
                self._list()  # a mirror that was reset
            with self._lock:
                held = dict.get(self, key, MISSING)
                if held is not MISSING:
                    return held
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = Future()
            value = self._fly(key, flight) if mine else flight.result()
            if value is MISSING:
                raise AbsentKeyError(key)
            if value is not OUTDATED:
                return value

    def _fly(self, key: str, flight: Future[Any]) -> Any:
        """Looks the key up for all who wait for this flight."""
        try:
            value = self._look_up(key)
        except BaseException as error:
            self._land(key, flight)
            flight.set_exception(error)
            raise
        self._land(key, flight)
        flight.set_result(value)
        return value

    def _land(self, key: str, flight: Future[Any]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def _look_up(self, key: str) -> Any:
        """Asks the service and holds what it found; returns the value, MISSING or OUTDATED."""
        with self._store.changes.calls.under_way():
            epoch = self._epoch
            return self._install_reply(key, self._store.lookup(self._domain, key), epoch)

    def _ask(self, keys: list[str]) -> dict[str, Any]:
        """Asks for many keys at once, holds what was found, and returns the values of those that exist."""
        found = {}
        with self._store.changes.calls.under_way():
            epoch = self._epoch
            for key, response in self._store.lookup_many(self._domain, keys).items():
                value = self._install_reply(key, response, epoch)
                if value is OUTDATED:
                    with contextlib.suppress(AbsentKeyError):
                        found[key] = self._fetch(key)
                elif value is not MISSING:
                    found[key] = value
        return found

    def _learn(self) -> dict[str, Any]:
        """Asks for the keys that this mirror knows to have changed, and returns those that exist."""
        found = {}
        for key in tuple(self._unknown):
            try:
                found[key] = self._fetch(key)
            except AbsentKeyError:
                continue
            except (DataLossError, UndecodableValueError):
                self._cannot_read(key)
        return found

    def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        while True:
            listing = Listing(self._epoch)
            with self._store.changes.calls.under_way():
                for page in self._store.pages(_requests.all_keys(self._domain, entries=True)):
                    self._take_page(listing, page)
                found = self._end_listing(listing)
            if found is not None:
                return found | self._learn()
