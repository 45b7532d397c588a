"""Which revision of each key a cache holds, and what may still be installed over it.

Replies race: what was read, or written, before a change that the cache has seen may arrive after it.
Everything in the store has a revision, so the rule is one comparison. A key that is not held has no
revision to compare with; what has been known of it is remembered for as long as a call is under way that
may have begun before that, and binds those calls alone.

Not synchronised: the owner calls under his lock, or from his event loop.
"""

from collections import deque

from ._calls import Calls


class Versions:
    """Invariant: what a call brings is admitted only if it is newer than all that is known of the key.

    A `call` is the number of the read or write that tells of an entry, which shows by when it began what it
    cannot have seen; 0 is a write of which that is not known.
    """

    def __init__(self, calls: Calls, since: int = 0) -> None:
        """Nothing is admitted from the calls up to `since`: the store was reset while they were under way."""
        self._since = since
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

    def predates_doubt(self, key: str, call: int) -> bool:
        """Returns whether the call may have missed a failed write of the key, or a reset."""
        return 0 < call <= max(self.doubtful.get(key, 0), self._since)

    def turn_down(self, key: str, revision: int, call: int) -> None:
        """Notes what was not admitted: if it predates a doubt, what resolves that must not be older."""
        if self.predates_doubt(key, call):
            self._raise_floor(key, revision)

    def install(self, key: str, revision: int) -> None:
        """Notes that the key holds this revision now, which was admitted."""
        self.held[key] = revision
        self.doubtful.pop(key, None)

    def admits_absence(self, key: str, revision: int, call: int = 0) -> bool:
        """Returns whether nothing newer is known of the key than that it was absent at this revision."""
        return revision >= self.held.get(key, 0) and not self.predates_doubt(key, call)

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

    def settle(self, call: int) -> None:
        """Notes that a listing, which began as `call`, has told of every key."""
        for key in [key for key, latest in self.doubtful.items() if latest < call]:
            del self.doubtful[key]

    def _raise_floor(self, key: str, least: int) -> None:
        # Those that every call under way began after are not needed any more: what it brings is newer.
        oldest = self._calls.oldest()
        while self._order and self._order[0][0] < oldest:
            call, forgotten = self._order.popleft()
            if self._floors.get(forgotten, (0, 0))[0] == call:
                del self._floors[forgotten]
        latest = self._calls.latest()
        _, before = self._floors.get(key, (0, 0))
        self._floors[key] = latest, max(least, before)
        self._order.append((latest, key))
