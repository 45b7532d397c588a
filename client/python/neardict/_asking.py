"""A near dict that asks the service, synchronously, for what it does not hold."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from . import _requests
from ._contents import MISSING
from ._edit import LEAST_ATTEMPTS, not_whole, pauses, unsettled
from ._flight import Flight
from ._listing import Listing
from ._near import LOOK_UPS_AT_ONCE, MOST_LOOK_UPS, OUTDATED
from ._observed import ObservedDict
from ._progress import Progress
from ._value_type import V
from .errors import AbsentKeyError, BulkError, DataLossError, NeardictError, UndecodableValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._progress import OnProgress
    from .store import Store
    from .v1 import storage_pb2 as pb

_Result = TypeVar("_Result")


class AskingDict(ObservedDict[V]):
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
                # An error of the service is everybody's; an interrupt, whatever a signal handler raises, is
                # of this thread alone.
                if not isinstance(error, NeardictError):
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
        for pause in pauses(self._store.patience):
            with self._store.changes.calls.under_way() as call:
                value = self._install_reply(key, self._store.lookup(self._domain, key), call)
            if value is not OUTDATED:
                return value
            time.sleep(pause or 0.0)
        raise unsettled(self._domain, key)

    def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        listing = self._read_all()
        return self._when_whole(lambda: self._copy_listed(listing), listed=True)

    def _load_all(self, on_progress: OnProgress | None = None) -> None:
        """Reads the whole domain, and holds it."""
        with self._lock:
            before = self._copy_held()
        self._read_all(on_progress, before)
        self._when_whole(lambda: None, listed=True)

    def _read_all(
        self, on_progress: OnProgress | None = None, before: dict[str, Any] | None = None
    ) -> Listing:
        progress = None if on_progress is None else Progress(on_progress)
        calls = self._store.changes.calls
        listing = Listing(calls.begin(), before=before or {})
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
        when the domain was listed just now. Raises UnavailableError if it is not after many attempts, and
        the time of a call.
        """
        self._look_at_clock()
        deadline: float | None = None
        for attempt in itertools.count():
            with self._lock:
                if (listed or self._shows_all()) and self._is_whole():
                    return read()
                doubtful = list(self._versions.doubtful)
                listing = not self._listed or not (listed or self._shows_all())
            if deadline is None:  # which mirrors that are up to date do not need
                deadline = time.monotonic() + self._store.patience
            elif attempt >= LEAST_ATTEMPTS and time.monotonic() > deadline:
                raise not_whole(self._domain)
            if listing or len(doubtful) > MOST_LOOK_UPS:
                listed = True
                self._read_all()
            else:
                self._settle(doubtful)
        raise AssertionError("the count does not end")

    def _settle(self, keys: list[str]) -> None:
        """Looks up what is in doubt, or seems to have expired. What nobody can read is left out."""
        for start in range(0, len(keys), LOOK_UPS_AT_ONCE):
            some = keys[start : start + LOOK_UPS_AT_ONCE]
            doubts = dict(self._versions.doubtful)
            with self._store.changes.calls.under_way() as call:
                try:
                    found = self._store.lookup_many(self._domain, some) if len(some) > 1 else {}
                except BulkError:
                    found = {}  # one by one it is told which, and why
                for key in some:
                    self._settle_one(key, found.get(key), call, doubts.get(key))

    def _settle_one(
        self, key: str, response: pb.GetValueResponse | None, call: int, doubt: int | None
    ) -> None:
        try:
            if response is None or self._install_reply(key, response, call) is OUTDATED:
                self._look_up(key)
        except (DataLossError, UndecodableValueError) as error:
            self._leave_out(key, error, doubt)
        self._looked_up(key)

    def reload(self) -> None:
        """Reads what a mirror lacks; for this package. Raises what reading raises."""
        keys = self._to_look_up()
        if keys is None:
            self._read_all()
        else:
            self._settle(keys)
