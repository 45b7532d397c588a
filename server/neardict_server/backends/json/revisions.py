"""Which revision the entry in a file has: written by us, by an earlier run, or by hand.

The modification time of a file that neardict writes is its revision, in microseconds, so revisions
survive a restart. While the server runs, memory decides: what is not as remembered was changed by
somebody else, whatever its time says, and gets a new revision at the moment that this is noticed.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from .. import base
from .files import Stored
from .sequence import Sequence

# How many entries whose revision can be had from their file again are remembered.
MAX_REMEMBERED = 131_072

# Takes a domain, a revision and its change, or None for the mark where following the domain began.
Tell = Callable[[str, int, base.Change | None], None]
# Returns the change that somebody else made, given its revision.
Describe = Callable[[int], base.Change]


def _told_to_nobody(domain: str, revision: int, change: base.Change | None) -> None:
    pass


class _Known(NamedTuple):
    """`digest` is of the contents, None if the key is absent; `guessed` if a file's time told which."""

    revision: int
    digest: int | None
    guessed: bool = False


class Revisions:
    """The revisions of all domains; may be used from any thread.

    Invariants: no revision of a domain is given twice, each is greater than those before, and what has
    been told of a key never goes back. The caller lets one write, `settle` or `notice` of a key run at a
    time.
    """

    def __init__(
        self,
        started: int,
        opened: int,
        clock: base.Clock = base.wall_clock,
        tell: Tell = _told_to_nobody,
    ) -> None:
        """`started` is a revision that no earlier run exceeded; `opened` the file system's time, in ns.

        `tell` is called for the domains that are followed, in order, under a lock: it must not wait.
        """
        self._started = started
        self._opened = opened
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._sequences: dict[str, Sequence] = {}
        # By (domain, key). Forgetting the first, oldest first, is harmless; the second cannot be forgotten.
        self._derivable: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._assigned: dict[tuple[str, str], _Known] = {}

    def latest(self) -> int:
        """Returns the greatest revision given so far."""
        with self._lock:
            return max((sequence.revision for sequence in self._sequences.values()), default=self._started)

    def current(self, domain: str) -> int:
        """Returns the greatest revision given in the domain."""
        with self._lock:
            sequence = self._sequences.get(domain)
            return self._started if sequence is None else sequence.revision

    def visible(self, domain: str) -> int:
        """Returns the domain's revision up to which every write can be read."""
        with self._lock:
            sequence = self._sequences.get(domain)
            return self._started if sequence is None else sequence.visible

    def follow(self, domain: str, *, empty: bool) -> int:
        """Begins, or begins anew, to tell the changes of the domain; returns the revision of the mark.

        The mark is told before every change with a greater revision. If the domain is `empty` then all
        that will be there is new, also an old file that is moved there.
        """
        with self._lock:
            sequence = self._sequence(domain)
            sequence.inherits = sequence.inherits and not empty
            sequence.follow(self._clock())
            self._tell_due(domain, sequence)
            return sequence.revision

    def unfollow(self, domain: str) -> None:
        """Ends telling the changes of the domain."""
        with self._lock:
            self._sequence(domain).unfollow()

    def late(self, domain: str, seconds: float) -> bool:
        """Returns whether changes that can be read wait to be told, for a write that takes so long."""
        with self._lock:
            return self._sequence(domain).late(seconds)

    def begin(self, domain: str) -> int:
        """Returns the revision of a write; `end` must follow."""
        with self._lock:
            return self._sequence(domain).begin(self._clock())

    def end(self, domain: str, revision: int, change: base.Change | None = None) -> None:
        """Says that a write is visible, and what it changed; or, without that, that it has failed."""
        with self._lock:
            sequence = self._sequences[domain]
            sequence.end(revision, change)
            self._tell_due(domain, sequence)

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

    def settle(self, domain: str, key: str, stored: Stored | None, describe: Describe | None = None) -> int:
        """Returns the revision of what was read while no write of the key was under way, and remembers it.

        What somebody else changed is told; without `describe` its value is not.
        """
        revision = self.recall(domain, key, stored)
        if revision is not None:
            return revision
        with self._lock:
            if stored is not None and self._known((domain, key)) is None:
                revision = self._inherited(domain, stored)
                if revision is not None:
                    self._remember((domain, key), revision, stored, guessed=True)
                    return revision
        revision = self._changed(domain, key, stored, describe)
        return base.ABSENT if stored is None else revision

    def notice(
        self,
        domain: str,
        key: str,
        stored: Stored | None,
        describe: Describe | None = None,
        *,
        gone: bool = False,
    ) -> None:
        """Tells what somebody else changed, having touched the file, unless `settle` has told it.

        `gone` says that the key was absent for a moment, which a listing may have seen.
        """
        with self._lock:
            known = self._known((domain, key))
            followed = self._sequence(domain).followed
            if (
                known is not None
                and known.digest == _digest(stored)
                # What was so before following began may have been otherwise meanwhile.
                and (followed is None or known.revision > followed)
                # Here the file's time told the revision, perhaps after it had been touched.
                and not known.guessed
                and (not gone or stored is None)
            ):
                return
        # Of a key that nobody knows, not even that it is gone: a client may, from a listing long ago.
        self._changed(domain, key, stored, describe)

    def _changed(self, domain: str, key: str, stored: Stored | None, describe: Describe | None) -> int:
        """Gives a revision to what somebody else changed, remembers and tells it."""
        with self._lock:
            sequence = self._sequence(domain)
            revision = sequence.begin(self._clock())
            self._remember((domain, key), revision, stored)
            wanted = sequence.followed is not None
        change = base.Change(key, revision, None if stored is None else "", told=False)
        try:
            if wanted and describe is not None:
                change = describe(revision)
        finally:
            self.end(domain, revision, change)
        return revision

    def _tell_due(self, domain: str, sequence: Sequence) -> None:
        for revision, change in sequence.due():
            self._tell(domain, revision, change)

    def _known(self, place: tuple[str, str]) -> _Known | None:
        return self._assigned.get(place) or self._derivable.get(place)

    def _inherited(self, domain: str, stored: Stored) -> int | None:
        """Returns the revision that the file's time stands for, None if it stands for none."""
        stamp, odd = divmod(stored.modified, 1000)
        sequence = self._sequences.get(domain)
        if stamp <= self._started:
            # Last changed before this run, and nobody has moved it here since, with an old time; its
            # folder may have been.
            inherits = sequence is None or sequence.inherits
            return stamp if stamp > 0 and inherits and stored.changed <= self._opened else None
        # A write of this run that was forgotten.
        return stamp if sequence is not None and not odd and stamp <= sequence.revision else None

    def _remember(
        self, place: tuple[str, str], revision: int, stored: Stored | None, *, guessed: bool = False
    ) -> None:
        self._assigned.pop(place, None)
        self._derivable.pop(place, None)
        known = _Known(revision, _digest(stored), guessed)
        if stored is not None and stored.modified // 1000 != revision:
            self._assigned[place] = known
            return
        self._derivable[place] = known
        if len(self._derivable) > MAX_REMEMBERED:
            self._derivable.popitem(last=False)

    def _sequence(self, domain: str) -> Sequence:
        sequence = self._sequences.get(domain)
        if sequence is None:
            sequence = self._sequences[domain] = Sequence(self._started)
        return sequence


def _digest(stored: Stored | None) -> int | None:
    # 64 bits, of a hash that nobody outside this process can aim at.
    return None if stored is None else hash(stored.data)
