"""Which revision of each key a cache holds, and what may still be installed over it.

A reply that fills a cache races with changes: it may have been read from the store before a change
that the cache has seen, and arrive after it. Everything in the store has a revision, so the rule is
one comparison; what remains is to remember, while fills are under way, what was removed meanwhile,
since a removed key has no revision to compare with.

Not synchronised: the owner calls under his lock, or from his event loop.
"""


class Versions:
    """Invariant: for each key the revision held never decreases, and a fill never undoes a removal."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self._removed: dict[str, int] = {}
        self._fills = 0

    def begin_fill(self) -> None:
        """To be called before the request of a fill goes out."""
        self._fills += 1

    def end_fill(self) -> None:
        """To be called when its reply has been installed, or will never be."""
        self._fills -= 1
        if not self._fills:
            self._removed.clear()

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
        if self._fills and revision > self._removed.get(key, 0):
            self._removed[key] = revision
        return True

    def forget(self, key: str) -> None:
        """Drops the key without a statement about the store."""
        self.held.pop(key, None)
