"""Which revision of each key a cache holds, and what may still be installed over it.

Replies race: what was read, or written, before a change that the cache has seen may arrive after it.
Everything in the store has a revision, so the rule is one comparison. A key that is not held has no
revision to compare with; what has been known of it is remembered for as long as a call is under way that
may have begun before that, and binds those calls alone, and until the stream of changes, which may be behind
what was written or read here, has passed it.

Not synchronised: the owner calls under his lock, or from his event loop.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence

from ._calls import Calls

# So many keys that are not held are remembered for the stream, which may be broken for long.
_FLOORS = 10_000


class Versions:
    """Invariant: what a call brings is admitted only if it is newer than all that is known of the key.

    A `call` is the number of the read or write that tells of an entry, which shows by when it began what it
    cannot have seen; 0 is a write of which that is not known.
    """

    def __init__(self, calls: Calls, since: int = 0, *, streamed: bool = False) -> None:
        """Nothing is admitted from the calls up to `since`: the store was reset while they were under way.

        `streamed` is whether changes come from a stream too.
        """
        self._since = since
        # The stream has passed this revision; below the other it may bring what is out of date, of keys of
        # which that is not remembered.
        self._passed: float = 0 if streamed else math.inf
        self._forgotten = 0
        # The whole domain was listed as it was at this revision, or later.
        self._listed = 0
        self.held: dict[str, int] = {}
        # Keys that a failed write has perhaps written, with the latest call that had begun when it failed.
        # They stay until a later read tells what is stored.
        self.doubtful: dict[str, int] = {}
        self._calls = calls
        # By key that is not held: the latest call that had begun, and the least revision to admit from it.
        self._floors: dict[str, tuple[int, int]] = {}
        # The same as (call, key), oldest first.
        self._order: deque[tuple[int, str]] = deque()

    def admits(self, key: str, revision: int, call: int = 0) -> bool:
        """Returns whether an entry of this revision is newer than all that is known of the key."""
        if revision <= self.held.get(key, 0) or self.predates_doubt(key, call):
            return False
        latest, least = self._floors.get(key, (0, 0))
        return revision >= least or call > latest

    def admitted(self, keys: Sequence[str], revisions: Sequence[int], call: int) -> Sequence[int]:
        """Returns the positions of those entries that `admits` would let in."""
        if self.doubtful or self._floors or 0 < call <= self._since:
            several = enumerate(zip(keys, revisions, strict=True))
            return [place for place, (key, revision) in several if self.admits(key, revision, call)]
        # Nothing but what is held counts, which is seldom anything where much is read.
        if self.held.keys().isdisjoint(keys):
            return range(len(keys))
        held = self.held.get
        several = enumerate(zip(keys, revisions, strict=True))
        return [place for place, (key, revision) in several if revision > held(key, 0)]

    def predates_doubt(self, key: str, call: int) -> bool:
        """Returns whether the call may have missed a failed write of the key, or a reset."""
        return 0 < call <= max(self.doubtful.get(key, 0), self._since)

    def is_overtaken(self, key: str, revision: int, call: int) -> bool:
        """Returns whether a write began before a reset, ended after it, and is newer than what is held.

        What was read in between is perhaps without it.
        """
        return 0 < call <= self._since and self.held.get(key, 0) < revision

    def turn_down(self, key: str, revision: int, call: int) -> None:
        """Notes what was not admitted: if it predates a doubt, what resolves that must not be older."""
        if self.predates_doubt(key, call):
            self._raise_floor(key, revision)

    def install(self, key: str, revision: int) -> None:
        """Notes that the key holds this revision now, which was admitted."""
        self.held[key] = revision
        self.doubtful.pop(key, None)

    def install_all(self, entries: Iterable[tuple[str, int]]) -> None:
        """Notes that each key holds its revision now, which was admitted."""
        if self.doubtful:
            for key, revision in entries:
                self.install(key, revision)
        else:
            self.held.update(entries)

    def admits_absence(self, key: str, revision: int, call: int = 0) -> bool:
        """Returns whether nothing newer is known of the key than that it was absent at this revision."""
        if revision < self.held.get(key, 0) or self.predates_doubt(key, call):
            return False
        latest, least = self._floors.get(key, (0, 0))
        return revision + 1 >= least or call > latest

    def sees(self, key: str, revision: int, call: int) -> bool:
        """Returns whether a read that found the key absent at this revision has missed nothing known here."""
        latest, least = self._floors.get(key, (0, 0))
        return self.admits_absence(key, revision, call) and (call > latest or revision >= least)

    def remove(self, key: str, revision: int, call: int = 0) -> None:
        """Notes that the key was absent at this revision, which was admitted."""
        self.held.pop(key, None)
        if call:
            self.doubtful.pop(key, None)
        self._raise_floor(key, revision + 1)

    def forget(self, key: str, least: int = 0) -> None:
        """Drops the key; what comes in its place must have this revision, or the one it held, or a newer."""
        least = max(least, self.held.pop(key, 0))
        if least:
            self._raise_floor(key, least)

    def doubt(self, key: str) -> None:
        """Drops the key since a write of it failed, and perhaps was applied."""
        self.forget(key)
        self.doubtful[key] = self._calls.latest()

    def outdate(self, key: str, least: int) -> None:
        """Drops the key, which exists at this revision or a newer one, and has to be looked up."""
        self.forget(key, least)
        self.doubtful[key] = self._calls.latest()

    def settle(self, call: int, revision: int) -> None:
        """Notes that a listing, which began as `call`, has told of every key, as far as it could know.

        It reflects all that was written up to the revision.
        """
        if call > self._since:
            self._listed = max(self._listed, revision)
        for key, latest in list(self.doubtful.items()):
            if latest < call and self._floors.get(key, (0, 0))[0] < call:
                del self.doubtful[key]

    def passed(self, revision: int) -> None:
        """Notes that the stream has brought every change up to this revision."""
        self._passed = max(self._passed, revision)

    def may_be_past(self, key: str, revision: int) -> bool:
        """Returns whether what the stream brings is perhaps older than what was known of the key here."""
        return revision < self._forgotten and key not in self.held and key not in self._floors

    def was_listed(self, key: str, revision: int) -> bool:
        """Returns whether a key that is not held was absent from a listing that reflects this revision."""
        return revision <= self._listed and key not in self.held

    def _raise_floor(self, key: str, least: int) -> None:
        # Not needed any more once every call under way began after it, since what that brings is newer, and
        # once the stream has passed it.
        oldest = self._calls.oldest()
        while self._order and self._order[0][0] < oldest:
            call, first = self._order[0]
            begun, floor = self._floors.get(first, (0, 0))
            if begun == call:
                if self._passed < floor - 1:
                    if len(self._order) <= _FLOORS:
                        break
                    self._forgotten = max(self._forgotten, floor)
                del self._floors[first]
            self._order.popleft()
        latest = self._calls.latest()
        _, before = self._floors.get(key, (0, 0))
        self._floors[key] = latest, max(least, before)
        self._order.append((latest, key))
