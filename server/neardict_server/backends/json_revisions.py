"""Which revision the entry in a file has: written by us, by an earlier run, or by hand.

The modification time of a file that neardict writes is its revision, in microseconds, so revisions
survive a restart. While the server runs, memory decides: what is not as remembered was changed by
somebody else, whatever its time says, and gets a new revision at the moment that this is noticed.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from . import base
from .json_files import Stored

# How many entries whose revision can be had from their file again are remembered.
MAX_REMEMBERED = 131_072


class _Known(NamedTuple):
    """`digest` is of the contents, None if the key is absent."""

    revision: int
    digest: int | None


@dataclass
class _Domain:
    revision: int
    # Given to writes that are not visible yet.
    pending: set[int] = field(default_factory=set)


class Revisions:
    """The revisions of all domains; may be used from any thread.

    Invariants: no revision of a domain is given twice, each is greater than those before, and what has
    been told of a key never goes back. The caller lets one write or `settle` of a key run at a time.
    """

    def __init__(self, started: int, opened: int, clock: base.Clock = base.wall_clock) -> None:
        """`started` is a revision that no earlier run exceeded; `opened` the file system's time, in ns."""
        self._started = started
        self._opened = opened
        self._clock = clock
        self._lock = threading.Lock()
        self._domains: dict[str, _Domain] = {}
        # By (domain, key). Forgetting the first, oldest first, is harmless; the second cannot be forgotten.
        self._derivable: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._assigned: dict[tuple[str, str], _Known] = {}

    def latest(self) -> int:
        """Returns the greatest revision given so far."""
        with self._lock:
            return max((domain.revision for domain in self._domains.values()), default=self._started)

    def current(self, domain: str) -> int:
        """Returns the greatest revision given in the domain."""
        with self._lock:
            state = self._domains.get(domain)
            return self._started if state is None else state.revision

    def visible(self, domain: str) -> int:
        """Returns the domain's revision up to which every write can be read."""
        with self._lock:
            state = self._domains.get(domain)
            if state is None:
                return self._started
            return min(state.pending) - 1 if state.pending else state.revision

    def begin(self, domain: str) -> int:
        """Returns the revision of a write; `end` must follow."""
        with self._lock:
            revision = self._advance(domain)
            self._domains[domain].pending.add(revision)
            return revision

    def end(self, domain: str, revision: int) -> None:
        """Says that a write is visible, or has failed."""
        with self._lock:
            self._domains[domain].pending.discard(revision)

    def written(self, domain: str, key: str, revision: int, stored: Stored | None) -> None:
        """Remembers a write, or a deletion if there is no file."""
        with self._lock:
            self._remember((domain, key), revision, stored)

    def recall(self, domain: str, key: str, stored: Stored | None) -> int | None:
        """Returns the revision of what was read, ABSENT for no file; None if `settle` must tell.

        What was read may be outdated: a write may have come between reading and asking.
        """
        digest = _digest(stored)
        with self._lock:
            known = self._known((domain, key))
            if known is None:
                return base.ABSENT if digest is None else None
            if known.digest != digest:
                return None
            return base.ABSENT if digest is None else known.revision

    def settle(self, domain: str, key: str, stored: Stored | None) -> int:
        """Returns the revision of what was read while no write of the key was under way, and remembers it."""
        revision = self.recall(domain, key, stored)
        if revision is not None:
            return revision
        with self._lock:
            if stored is not None and self._known((domain, key)) is None:
                revision = self._inherited(domain, stored)
            if revision is None:
                revision = self._advance(domain)
            self._remember((domain, key), revision, stored)
            return base.ABSENT if stored is None else revision

    def _known(self, place: tuple[str, str]) -> _Known | None:
        return self._assigned.get(place) or self._derivable.get(place)

    def _inherited(self, domain: str, stored: Stored) -> int | None:
        """Returns the revision that the file's time stands for, None if it stands for none."""
        stamp, odd = divmod(stored.modified, 1000)
        if stamp <= self._started:
            # Last changed before this run, and nobody has moved it here since, with an old time.
            return stamp if stamp > 0 and stored.changed <= self._opened else None
        state = self._domains.get(domain)
        # A write of this run that was forgotten.
        return stamp if state is not None and not odd and stamp <= state.revision else None

    def _remember(self, place: tuple[str, str], revision: int, stored: Stored | None) -> None:
        self._assigned.pop(place, None)
        self._derivable.pop(place, None)
        known = _Known(revision, _digest(stored))
        if stored is not None and stored.modified // 1000 != revision:
            self._assigned[place] = known
            return
        self._derivable[place] = known
        if len(self._derivable) > MAX_REMEMBERED:
            self._derivable.popitem(last=False)

    def _advance(self, domain: str) -> int:
        state = self._domains.get(domain)
        if state is None:
            state = self._domains[domain] = _Domain(self._started)
        state.revision = base.next_revision(state.revision, self._clock())
        return state.revision


def _digest(stored: Stored | None) -> int | None:
    # 64 bits, of a hash that nobody outside this process can aim at.
    return None if stored is None else hash(stored.data)
