"""Which revision of each key a cache holds, and what may still be installed over it.

Replies race: what was read, or written, before a change that the cache has seen may arrive after it.
Everything in the store has a revision, so the rule is one comparison. What remains is to remember which
keys were removed, since a removed key has no revision to compare with, for as long as a call is under
way that may have begun before the removal.

Not synchronised: the owner calls under his lock, or from his event loop.
"""

from collections import deque

from ._calls import Calls


class Versions:
    """Invariant: the revision known of a key, held or removed, never decreases while calls are under way."""

    def __init__(self, calls: Calls) -> None:
        self.held: dict[str, int] = {}
        self._calls = calls
        self._removed: dict[str, int] = {}
        # (the latest call that had begun, key, revision), oldest first.
        self._removals: deque[tuple[int, str, int]] = deque()

    def admits(self, key: str, revision: int) -> bool:
        """Returns whether an entry of this revision is newer than all that is known of the key."""
        return revision > self.held.get(key, 0) and revision > self._removed.get(key, 0)

    def install(self, key: str, revision: int) -> bool:
        """Notes that the key holds this revision now; False if something newer is known."""
        if not self.admits(key, revision):
            return False
        self.held[key] = revision
        return True

    def remove(self, key: str, revision: int) -> bool:
        """Notes that the key was absent at this revision; False if something newer is known.

        True also for a key that is not held.
        """
        if self.held.get(key, 0) > revision:
            return False
        self.held.pop(key, None)
        self._remember(key, revision)
        return True

    def outdate(self, key: str, revision: int) -> bool:
        """Notes that the key, not held, has this revision now; False if something newer is known."""
        if not self.admits(key, revision):
            return False
        self.held.pop(key, None)
        self._remember(key, revision - 1)
        return True

    def forget(self, key: str) -> None:
        """Drops the key without a statement about the store."""
        self.held.pop(key, None)

    def _remember(self, key: str, revision: int) -> None:
        """Remembers that nothing up to this revision may be installed, while a call may bring it."""
        # Forgets those that every call under way began after: what it brings is newer.
        oldest = self._calls.oldest()
        while self._removals and self._removals[0][0] < oldest:
            _, old, at = self._removals.popleft()
            if self._removed.get(old) == at:
                del self._removed[old]
        if revision > self._removed.get(key, 0):
            self._removed[key] = revision
            self._removals.append((self._calls.latest(), key, revision))
