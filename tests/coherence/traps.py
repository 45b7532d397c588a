"""What the tests of the traps share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coherence.listening import Listener
from waiting import DEADLINE_SECONDS as DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import neardict
    import neardict.aio
    from neardict._changes import Change

DOMAIN = "traps"


def eventually(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Waits until it holds. Raises AssertionError after the seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.005)


class Witness(Listener):
    """A listener beside the dicts of a store, told in the order in which it joined."""

    def __init__(self, store: neardict.Store | neardict.aio.Store) -> None:
        self.keys: list[str] = []
        self.resets = self.stales = 0
        store.changes.subscribe(DOMAIN, self)

    def apply(self, change: Change) -> None:
        """See neardict._changes.Listener."""
        self.keys.append(change.key)

    def stale(self) -> None:
        """See neardict._changes.Listener."""
        self.stales += 1

    def reset(self) -> None:
        """See neardict._changes.Listener."""
        self.resets += 1


class LargeWrites:
    """Writes more at once than may wait for one who does not read, where it remembers little."""

    def __init__(self, store: neardict.Store) -> None:
        self._store = store
        self._round = 0
        self.last_key = "large-1199"
        self.last_value = ""

    def seconds(self) -> float:
        """Writes, and returns how long it took."""
        self._round += 1
        self.last_value = f"{self._round}" * 2000
        begin = time.monotonic()
        self._store.set_many(DOMAIN, {f"large-{number}": self.last_value for number in range(1200)})
        return time.monotonic() - begin
