"""A listener that does nothing, for those who are interested in some of what a store tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neardict._changes import Change


class Listener:
    """See neardict._changes.Listener."""

    leased = False

    def apply(self, change: Change) -> None:
        pass

    def doubt(self, key: str) -> None:
        pass

    def freshen(self) -> None:
        pass

    def stale(self) -> None:
        pass

    def reset(self) -> None:
        pass

    def revoke(self, key: str, number: int) -> None:
        pass

    def release(self, key: str, number: int) -> None:
        pass

    def forked(self) -> None:
        pass
