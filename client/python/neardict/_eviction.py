"""Which keys a bounded cache keeps.

A hit is served by dict itself and leaves no trace, so that neither the least recently nor the least
frequently used key can be told, nor can one that was used get the second chance of a clock. What is known
is when a key came, and the one that came first leaves first. For references that do not depend on each
other this hits as often as a choice at random (Gelenbe 1973), and unlike that it is over in one step that
no signal can interrupt half-way. A key that is still in use comes back with its next miss.
"""

from collections import OrderedDict


class Residents:
    """At most `limit` keys, in the order in which they came. Its owner's lock guards it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._keys: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def leaving(self, key: str) -> str | None:
        """Returns the key that has to be discarded before this one can be added, None if there is room."""
        if key in self._keys or len(self._keys) < self.limit:
            return None
        return next(iter(self._keys))

    def admit(self, key: str) -> None:
        """Adds the key, in the place of another if there is no room."""
        leaving = self.leaving(key)
        if leaving is not None:
            self.discard(leaving)
        self.add(key)

    def add(self, key: str) -> None:
        """Adds the key, for which there is room; one that is here already keeps its turn."""
        self._keys.setdefault(key)

    def discard(self, key: str) -> None:
        """Removes the key, if it is here."""
        self._keys.pop(key, None)

    def clear(self) -> None:
        """Removes all."""
        self._keys.clear()
