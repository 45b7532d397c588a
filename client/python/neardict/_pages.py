"""The pages of a listing, checked, and by columns, for both clients. No I/O."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from ._replies import REVISIONS_END, protocol_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .v1 import storage_pb2 as pb

# So many keys are remembered, to see that none comes twice, before it begins anew: not all, since whoever
# goes through a domain of any size does so in bounded memory.
_REMEMBERED_KEYS = 10_000
# A backend that looks for what fits may pass over much, but not for ever.
_MOST_EMPTY_PAGES = 10_000


class Page:
    """A page of a listing, as AllKeysResponse has it, and its entries by columns.

    By columns, since code of ours for each entry costs more than all the rest of it.
    """

    __slots__ = (
        "domain_revision",
        "entries",
        "keys",
        "large_keys",
        "names",
        "revisions",
        "total_keys",
        "unreadable_keys",
        "values",
    )

    def __init__(
        self,
        domain_revision: int,
        *,
        keys: Sequence[str] = (),
        entries: Sequence[pb.Entry] = (),
        unreadable_keys: Sequence[str] = (),
        large_keys: Sequence[str] = (),
        total_keys: int = 0,
    ) -> None:
        self.domain_revision = domain_revision
        self.keys = keys
        self.entries = entries
        self.unreadable_keys = unreadable_keys
        self.large_keys = large_keys
        self.total_keys = total_keys
        # Of the entries, in their order.
        self.names = [entry.key for entry in entries]
        self.revisions = [entry.revision for entry in entries]
        self.values = [entry.value for entry in entries]


class Pages:
    """Checks the pages of one listing, one after the other.

    Not the values, and when they expire: that is looked at where it is used.
    """

    def __init__(self, request: pb.AllKeysRequest, target: str) -> None:
        self._target = target
        self._request = request
        self.begin_again()

    def begin_again(self) -> None:
        """The listing broke, and comes anew from its beginning."""
        self._revision: int | None = None
        self._empty = 0
        self._seen = {""}

    def read(self, message: pb.AllKeysResponse | None) -> Page:
        """Returns the page. Raises ServiceError if it is none of this listing."""
        if message is None:  # grpc.aio has logged it
            raise protocol_error(self._target, "sent a page of a listing that cannot be read")
        page = Page(
            message.domain_revision,
            keys=message.keys,
            entries=list(message.entries),
            unreadable_keys=message.unreadable_keys,
            large_keys=message.large_keys,
            total_keys=message.total_keys,
        )
        if problem := self._problem(page):
            raise protocol_error(self._target, problem)
        return page

    def _problem(self, page: Page) -> str:
        if self._revision is None:
            self._revision = page.domain_revision
        if page.domain_revision != self._revision or page.domain_revision >= REVISIONS_END:
            return "sent pages of a listing with several revisions, or with one beyond all"
        if page.total_keys >= REVISIONS_END:
            return "announced more keys than there can be"
        of_entries = page.entries or page.unreadable_keys or page.large_keys
        if page.keys if self._request.include_entries else of_entries:
            return "listed keys where entries were asked for, or entries where keys were"
        return self._keys_problem(page) or self._entries_problem(page)

    def _keys_problem(self, page: Page) -> str:
        names: Sequence[str] = page.names
        if page.keys or page.unreadable_keys or page.large_keys:
            names = [*page.keys, *names, *page.unreadable_keys, *page.large_keys]
        if not names:
            self._empty += 1
            return "sent pages of nothing without end" if self._empty > _MOST_EMPTY_PAGES else ""
        self._empty = 0
        prefix = self._request.prefix
        if prefix and not all(map(str.startswith, names, repeat(prefix))):
            return "listed a key that does not begin with the prefix that was asked for"
        if len(self._seen) > _REMEMBERED_KEYS:
            self._seen = {""}
        before = len(self._seen)
        # Once for the whole page, and the empty key is among them from the beginning.
        self._seen.update(names)
        return "" if len(self._seen) == before + len(names) else "listed a key twice, or an empty one"

    def _entries_problem(self, page: Page) -> str:
        if not page.entries:
            return ""
        if min(page.revisions) <= 0 or max(page.revisions) >= REVISIONS_END:
            return "listed an entry with a revision that no write has"
        return ""
