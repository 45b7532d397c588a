"""How a near dict takes in a listing of its domain, page by page, while changes go on."""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _requests, values
from ._contents import MISSING
from ._near import NearDict
from ._value_type import V
from .errors import UndecodableValueError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._calls import Calls
    from ._pages import Page
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

_EXPIRES = operator.methodcaller("HasField", "expire_time")


@dataclass
class Listing:
    """What a listing of the domain, as the call of this number, has brought so far.

    Who makes it ends that call.
    """

    call: int
    revision: int = 0
    keys: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    # Of a bounded cache, which may have no room for them: what was listed, unless it is held.
    values: dict[str, Any] = field(default_factory=dict)
    # What was held when a refresh began: objects that were edited in place are to be replaced by what is
    # stored, though it has the same revision.
    before: dict[str, Any] = field(default_factory=dict)
    # About how many entries there are, if the service knows.
    total: int | None = None

    def begin_again(self, calls: Calls) -> None:
        """It broke, and comes anew from its beginning, as another call. What it has brought stays held."""
        self.call, ended = calls.begin(), self.call
        calls.end(ended)
        self.keys.clear()
        self.unreadable.clear()
        self.values.clear()
        self.revision, self.total = 0, None

    @property
    def loaded(self) -> int:
        """How many entries have come, the unreadable ones included."""
        return len(self.keys) + len(self.unreadable)


class _Columns(NamedTuple):
    """Entries of a page. By columns, since code of ours for each entry costs more than all the rest of it."""

    entries: Sequence[pb.Entry]
    keys: Sequence[str]
    revisions: Sequence[int]
    values: Sequence[Any]
    # When those expire that do, by key, in seconds since the epoch.
    expiries: Mapping[str, float] = {}

    @classmethod
    def of(cls, page: Page) -> _Columns:
        """Returns all, with the messages of their values."""
        return cls(page.entries, page.names, page.revisions, page.values)

    def at(self, places: Sequence[int]) -> _Columns:
        """Returns those at these places alone."""
        if len(places) == len(self.keys):
            return self
        return _Columns(
            [self.entries[place] for place in places],
            [self.keys[place] for place in places],
            [self.revisions[place] for place in places],
            [self.values[place] for place in places],
            self.expiries,
        )


def _expiries(entries: Sequence[pb.Entry]) -> dict[str, float]:
    """Returns when those expire that do. Raises as `expire_time`."""
    expiring = ((entry.key, _requests.expiry(entry)) for entry in filter(_EXPIRES, entries))
    return {key: expires for key, expires in expiring if expires is not None}


class ListedDict(NearDict[V]):
    """Adds listings. No I/O, as in NearDict."""

    __slots__ = ()

    def _take_page(self, listing: Listing, page: Page) -> None:
        listing.revision = page.domain_revision
        listing.unreadable += page.unreadable_keys
        listing.total = page.total_keys or listing.total
        listed = new = _Columns.of(page)
        if self._residents is None and not listing.before:
            # What is held already need not be decoded. Looked up without the lock, which is sound since it
            # is asked again under it.
            new = listed.at(self._versions.admitted(listed.keys, listed.revisions, listing.call))
        new = new._replace(values=self._decode_all(new.values))
        readable = [
            place for place, value in enumerate(new.values) if not isinstance(value, UndecodableValueError)
        ]
        if len(readable) < len(new.keys):
            unreadable = set(new.keys).difference(new.keys[place] for place in readable)
            listing.unreadable += unreadable
            listing.keys += [key for key in listed.keys if key not in unreadable]
            new = new.at(readable)
        else:
            listing.keys += listed.keys
        # Which raises, for what is no time, before anything is held.
        new = new._replace(expiries=_expiries(new.entries))
        if self._residents is not None:
            listing.values.update(zip(new.keys, new.values, strict=True))
        # Without the lock, since comparing may run code of the program's own.
        edited = self._edited(new, listing.before) if listing.before else ()
        with self._lock:
            if self._residents is None:
                self._hold_columns(new, listing.call)
            else:
                for entry, value in zip(new.entries, new.values, strict=True):
                    # A listing takes no place from what was looked up.
                    if self._has_room(entry.key):
                        self._hold_entry(entry, value, listing.call)
            for key, revision, value in edited:
                self._renew(key, revision, value, listing.before[key])

    def _edited(self, read: _Columns, before: Mapping[str, Any]) -> list[tuple[str, int, Any]]:
        """Returns what was read of keys whose objects were edited in place, and hold this revision."""
        held = self._versions.held
        return [
            (key, revision, value)
            for key, revision, value in zip(read.keys, read.revisions, read.values, strict=True)
            if held.get(key) == revision
            and (object_before := before.get(key, MISSING)) is not MISSING
            and not values.is_same(object_before, value)
        ]

    def _renew(self, key: str, revision: int, value: Any, before: Any) -> None:
        """Holds what was read at this revision in place of the object before. The caller holds _lock."""
        if before is self._peek(key) and self._versions.held.get(key) == revision:
            self._fill_slot(key, value)

    def _renew_reply(self, reply: pb.GetValueResponse, before: Any) -> None:
        """Does the same for one key that was looked up."""
        key, revision = reply.entry.key, reply.entry.revision
        if reply.found and before is not MISSING and self._versions.held.get(key) == revision:
            value = self._decode(reply.entry.value)
            if not values.is_same(before, value):
                with self._lock:
                    self._renew(key, revision, value, before)

    def _hold_columns(self, new: _Columns, call: int) -> None:
        """Holds the values unless something newer is known. The caller holds _lock; there is no bound."""
        places = self._versions.admitted(new.keys, new.revisions, call)
        if len(places) < len(new.keys):
            for place in set(range(len(new.keys))).difference(places):
                self._versions.turn_down(new.keys[place], new.revisions[place], call)
            new = new.at(places)
        for key in new.keys if len(self._absent) else ():
            self._absent.discard(key)
        self._fill_slots(zip(new.keys, new.values, strict=True))
        self._versions.install_all(zip(new.keys, new.revisions, strict=True))
        self._counts.fills += len(new.keys)
        for key, revision in zip(new.keys, new.revisions, strict=True) if new.expiries else ():
            if (expires := new.expiries.get(key)) is not None:
                self._await_expiry(key, revision, expires)

    def _end_listing(self, listing: Listing) -> None:
        """Drops what was not listed."""
        with self._lock:
            if not self._holds_just(listing.keys):  # as it does the first time, if nothing changed meanwhile
                listed = set(listing.keys)
                for key in self._held_keys():
                    if key not in listed:
                        # It was absent at that revision; if what is held is newer, it stays.
                        self._remove(key, listing.revision, listing.call)
            self._versions.settle(listing.call, listing.revision)
            self._unreadable = frozenset(listing.unreadable)
            lacked, self._listed = not self._listed, not self._versions.predates_doubt("", listing.call)
            self._was_listed = True
            self._follow_up()
            if lacked:
                self._compact()
        if listing.unreadable:
            logger.warning(
                "%d entries of the domain %r cannot be read and are left out, the first being %r: "
                "looking one up raises the reason",
                len(listing.unreadable),
                self._domain,
                listing.unreadable[0],
            )

    def _copy_listed(self, listing: Listing) -> dict[str, Any]:
        """Returns a plain dict of what is held, in the order of the listing. The caller holds _lock.

        So that for a partial cache d.keys() and d.values() go together.
        """
        held = listing.values | self._copy_held()
        return {key: held.pop(key) for key in listing.keys if key in held} | held
