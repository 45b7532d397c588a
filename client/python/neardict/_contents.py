"""What a near dict holds: in the dict itself, where hits are served, or set aside, where it waits."""

from __future__ import annotations

import collections
import operator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._value_type import V

if TYPE_CHECKING:
    from collections.abc import Iterable

MISSING: Any = object()


class _Guard:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<not all of the domain is here: use d.copy()>"

    def __str__(self) -> str:
        # For what would write any key as a text, as ujson does.
        raise TypeError("not all of the domain is in this dict's own storage: use d.copy()")


# A key of the storage itself while it is not the whole domain, known to be up to date. C code that reads the
# storage of a dict would take what is there for all there is. With this in it, `json` finds that it is not
# empty, and asks `items()`; what cannot write a key that is not a str raises, as `orjson` does.
GUARD: Final[Any] = _Guard()

# Goes through an iterator in one call of C.
_exhaust = collections.deque[Any](maxlen=0).extend


class Contents(dict[str, V]):
    """A dict that can conceal what it holds, and expose it again: the same objects.

    Invariant: when the storage lacks what it should show, GUARD is in it, unless nobody has the dict yet. It
    comes before anything goes, and goes after all is there. Subclasses say with `_is_complete` when that is.

    The caller sees to it that one thread at a time changes it.
    """

    __slots__ = ("_aside", "_mixed", "_private")

    # What is held while the dict itself must not show it; None while it does.
    _aside: dict[str, Any] | None
    # Whether the dict's table has had GUARD since it was cleared.
    _mixed: bool
    # Whether nobody has the dict yet: what is loaded until then needs no second table.
    _private: bool

    def _is_complete(self) -> bool:
        """Returns whether what is held is all there is, so that anybody may read it where it is shown."""
        raise NotImplementedError

    def _guard(self) -> None:
        """Lets nobody take the storage for the whole: to be called before something goes from it."""
        if not self._private:
            self._mixed = True
            dict.__setitem__(self, GUARD, None)  # type: ignore[misc]  # no entry

    def _unguard_if_whole(self) -> None:
        """Lets the storage be read by anybody, if it is the whole: after something came into it."""
        if dict.__contains__(self, GUARD) and self._aside is None and self._is_complete():
            dict.pop(self, GUARD)

    def _compact(self) -> None:
        """Makes look-ups as quick as they are in a dict that has had no other keys than str.

        CPython remembers in a dict's table that there was one until the dict has been cleared.
        """
        if self._mixed and self._aside is None and not dict.__contains__(self, GUARD):
            self._switch(None, Contents._copy_held(self))

    def _expose(self) -> None:
        """Shows what is held."""
        if (aside := self._aside) is not None:
            whole = self._private or self._is_complete()
            self._switch(None, aside if whole else {GUARD: None, **aside})

    def _conceal(self) -> None:
        """Sets aside what is held."""
        if self._aside is None:
            self._switch(Contents._copy_held(self), {GUARD: None})

    def _switch(self, aside: dict[str, Any] | None, entries: dict[Any, Any]) -> None:
        """Changes what is set aside, and all that is in the storage.

        In one call of C, so that no other thread finds it half done, nor an interrupt leaves it so.
        """
        steps = (
            partial(setattr, self, "_aside", aside),
            partial(setattr, self, "_mixed", GUARD in entries),
            partial(dict.clear, self),
            partial(dict.update, self, entries),
        )
        _exhaust(map(operator.call, steps))

    def _shows_all(self) -> bool:
        """Returns whether the dict shows all that is held."""
        return self._aside is None

    def _shown_count(self) -> int:
        """Returns how many entries are in the storage."""
        return dict.__len__(self) - dict.__contains__(self, GUARD)

    def _shown_keys(self) -> list[str]:
        """Returns the keys that are in the storage."""
        keys = list(dict.keys(self))
        if dict.__contains__(self, GUARD):
            keys.remove(GUARD)
        return keys

    def _peek(self, key: str) -> Any:
        """Returns the value that is held, or MISSING."""
        aside = self._aside
        return dict.get(self, key, MISSING) if aside is None else aside.get(key, MISSING)

    def _fill_slot(self, key: str, value: Any) -> None:
        """Holds the value under the key."""
        if self._aside is None:
            dict.__setitem__(self, key, value)
        else:
            self._aside[key] = value

    def _fill_slots(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Holds each value under its key."""
        if self._aside is None:
            dict.update(self, entries)
        else:
            self._aside.update(entries)

    def _clear_slot(self, key: str) -> None:
        """Holds nothing under the key."""
        if self._aside is None:
            dict.pop(self, key, None)
        else:
            self._aside.pop(key, None)

    def _clear_slots(self) -> None:
        """Holds nothing, and is not the whole."""
        if self._aside is None:
            # What goes may run code of the program's own: not before the guard is there.
            gone = Contents._copy_held(self)
            self._switch(None, {GUARD: None})
            del gone
        else:
            self._aside.clear()

    def _held_count(self) -> int:
        return self._shown_count() if self._aside is None else len(self._aside)

    def _holds_just(self, keys: list[str]) -> bool:
        """Returns whether these are the keys that are held, in this order; without a copy of them."""
        held = self._shown_keys() if self._aside is None else self._aside.keys()
        return len(held) == len(keys) and all(map(operator.eq, held, keys))

    def _held_keys(self) -> list[str]:
        return self._shown_keys() if self._aside is None else list(self._aside)

    def _held_values(self) -> list[Any]:
        if self._aside is not None:
            return list(self._aside.values())
        if dict.__contains__(self, GUARD):
            return [value for _, value in Contents._held_items(self)]
        return list(dict.values(self))

    def _held_items(self) -> list[tuple[str, Any]]:
        if self._aside is not None:
            return list(self._aside.items())
        if dict.__contains__(self, GUARD):
            return [item for item in dict.items(self) if item[0] is not GUARD]
        return list(dict.items(self))

    def _copy_held(self) -> dict[str, Any]:
        """Returns a plain dict of what is held.

        Not dict.copy(self): for a class with an __iter__ of its own that goes through keys().
        """
        if self._aside is not None:
            return dict(self._aside)
        if dict.__contains__(self, GUARD):
            return {key: value for key, value in dict.items(self) if key is not GUARD}
        return {key: value for key, value in dict.items(self)}  # noqa: C416  # dict(view) is slower
