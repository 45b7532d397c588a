"""Remembers recent changes, so that a client that lost its stream for a moment need not read all again."""

import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from ..backends.base import MOST_MISSED, Change

# Bounds of what is remembered, for all domains together.
MAX_CHANGES = 100_000
MAX_BYTES = 64 * 1024 * 1024

_REVISION = Change._fields.index("revision")


class RecentChanges:
    """The latest changes of each domain, without gaps; the domain that was quiet longest forgets first.

    Not synchronised: used on the event loop alone.
    """

    def __init__(self, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._changes = 0
        self._bytes = 0
        # domain -> (the revision after which all changes are here, they), the latest changed last.
        # Changes are plain tuples here, of nothing but texts and numbers, which the garbage collector looks
        # at once, and not again and again.
        self._domains: OrderedDict[str, tuple[int, deque[tuple[Any, ...]]]] = OrderedDict()

    def record(self, domain: str, previous: int, change: Change) -> None:
        """Remembers a change; `previous` is the domain's revision before it."""
        if domain not in self._domains:
            self._domains[domain] = (previous, deque())
        self._domains.move_to_end(domain)
        self._domains[domain][1].append(tuple(change))
        self._changes += 1
        self._bytes += _size(change)
        while self._changes > self._max_changes or self._bytes > self._max_bytes:
            self._forget()

    def since(self, domain: str, revision: int, current: int) -> Sequence[Change] | None:
        """Returns the changes after the revision, None if some may be missing, or if they are very many.

        `current` is the domain's revision now. One who knows of a greater has it from an earlier process,
        whose clock went before ours.
        """
        if revision > current:
            return None
        if domain not in self._domains:
            return [] if revision == current else None
        complete_after, changes = self._domains[domain]
        if revision < complete_after:
            return None
        if len(changes) > MOST_MISSED and changes[-1 - MOST_MISSED][_REVISION] > revision:
            return None
        after = itertools.takewhile(lambda change: change[_REVISION] > revision, reversed(changes))
        return list(itertools.starmap(Change, after))[::-1]

    def _forget(self) -> None:
        """Forgets the older half of the domain that was quiet longest."""
        domain, (_, changes) = next(iter(self._domains.items()))
        complete_after = 0
        for _ in range((len(changes) + 1) // 2):
            change = Change(*changes.popleft())
            complete_after = change.revision
            self._changes -= 1
            self._bytes -= _size(change)
        if changes:
            self._domains[domain] = (complete_after, changes)
        else:
            del self._domains[domain]


def _size(change: Change) -> int:
    return len(change.key) + (len(change.value) if change.value is not None else 0)
