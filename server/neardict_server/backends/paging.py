"""Cuts a listing into pages that are bounded in bytes and in number."""

from collections.abc import Iterable, Iterator

from . import base


def pages(
    found: Iterable[base.Entry], domain_revision: int, *, entries: bool, total: int = 0
) -> Iterator[base.Page]:
    """Yields the entries, or only their keys, in pages; one empty page if there are none.

    `total` goes with the first.
    """
    batch: list[base.Entry] = []
    size = 0
    most = base.PAGE_ENTRIES if entries else base.PAGE_KEYS
    first = True
    for entry in found:
        batch.append(entry)
        # Four bytes for each character: no text is longer in UTF-8.
        size += 4 * len(entry.key) + (_size(entry.value) if entries else 0)
        if size >= base.PAGE_BYTES or len(batch) >= most:
            yield _page(batch, domain_revision, entries=entries, total=total)
            batch, size, total = [], 0, 0
            first = False
    if batch or first:
        yield _page(batch, domain_revision, entries=entries, total=total)


def _page(batch: list[base.Entry], domain_revision: int, *, entries: bool, total: int) -> base.Page:
    if entries:
        return base.Page(domain_revision, entries=batch, total=total)
    return base.Page(domain_revision, keys=[entry.key for entry in batch], total=total)


def _size(value: base.Value) -> int:
    return len(value) if isinstance(value, bytes) or value.isascii() else 4 * len(value)
