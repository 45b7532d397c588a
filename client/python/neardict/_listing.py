"""How a near dict takes in a listing of its domain, page by page, while changes go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._contents import MISSING
from ._near import NearDict
from .errors import UndecodableValueError

if TYPE_CHECKING:
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)


@dataclass
class Listing:
    """What a listing of the domain, as the call of this number, has brought so far."""

    call: int
    revision: int = 0
    keys: dict[str, None] = field(default_factory=dict)  # in the order of the listing
    unreadable: list[str] = field(default_factory=list)
    # Of a bounded cache, which may have no room for them: what was listed, unless it is held.
    values: dict[str, Any] = field(default_factory=dict)


class ListedDict(NearDict):
    """Adds listings. No I/O, as in NearDict."""

    __slots__ = ()

    def _take_page(self, listing: Listing, page: pb.AllKeysResponse) -> None:
        listing.revision = page.domain_revision
        listing.unreadable += page.unreadable_keys
        new: list[tuple[pb.Entry, Any]] = []
        for entry in page.entries:
            try:
                value = self._decode_new(entry, listing.call)
                if self._residents is not None:
                    listing.values[entry.key] = self._decode(entry.value) if value is MISSING else value
            except UndecodableValueError:
                listing.unreadable.append(entry.key)
                continue
            listing.keys[entry.key] = None
            if value is not MISSING:
                new.append((entry, value))
        with self._lock:
            for entry, value in new:
                # A listing takes no place from what was looked up.
                if self._has_room(entry.key):
                    self._hold_entry(entry, value, listing.call)

    def _end_listing(self, listing: Listing) -> None:
        """Drops what was not listed."""
        with self._lock:
            for key in [key for key in self._held_keys() if key not in listing.keys]:
                # It was absent at that revision; if what is held is newer, it stays.
                self._remove(key, listing.revision, listing.call)
            self._versions.settle(listing.call, listing.revision)
            self._unreadable = frozenset(listing.unreadable)
            self._listed = not self._versions.predates_doubt("", listing.call)
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
