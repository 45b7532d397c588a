"""The revisions of one domain in their order: given, visible, told.

Writes of different keys wait for the disk together and end in any order, so a change that can be read is
held back until all with lower revisions can be, or have failed.
"""

import heapq
import time

from .. import base


class Sequence:
    """Not synchronised: its owner calls it under his lock.

    Invariants: revisions increase; changes leave in their order, each once, when everything up to them is
    visible.
    """

    def __init__(self, started: int) -> None:
        """`started` is a revision that no earlier run exceeded."""
        # The greatest that was given.
        self.revision = started
        # The revision since which changes are told, None if they are not: nobody follows the domain.
        self.followed: int | None = None
        # Whether files may be there that are older than this run.
        self.inherits = True
        # Given to writes that are not visible yet, with the time of that.
        self._pending: dict[int, float] = {}
        # A heap of what waits for those; None marks where following began.
        self._finished: list[tuple[int, base.Change | None]] = []

    @property
    def visible(self) -> int:
        """The revision up to which everything can be read."""
        return min(self._pending) - 1 if self._pending else self.revision

    def begin(self, now: int) -> int:
        """Returns the revision of a change; `end` must follow."""
        self.revision = base.next_revision(self.revision, now)
        self._pending[self.revision] = time.monotonic()
        return self.revision

    def end(self, revision: int, change: base.Change | None) -> None:
        """Says that a change is visible, or, without one, that it failed."""
        del self._pending[revision]
        if change is not None and self.followed is not None:
            heapq.heappush(self._finished, (revision, change))

    def follow(self, now: int) -> None:
        """Begins to tell changes, in whose order a mark tells where."""
        self.revision = base.next_revision(self.revision, now)
        self.followed = self.revision
        heapq.heappush(self._finished, (self.revision, None))

    def unfollow(self) -> None:
        """Ends telling changes."""
        self.followed = None
        self._finished.clear()

    def due(self) -> list[tuple[int, base.Change | None]]:
        """Returns what can be told now, in order."""
        visible = self.visible
        told = []
        while self._finished and self._finished[0][0] <= visible:
            told.append(heapq.heappop(self._finished))
        return told

    def late(self, seconds: float) -> bool:
        """Returns whether what can be read has been waiting, for a write that began so long ago."""
        if not self._finished or not self._pending:
            return False
        return time.monotonic() - min(self._pending.values()) > seconds
