"""What a near dict holds: in the dict itself, where hits are served, or set aside, where it waits."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MISSING: Any = object()


class Contents(dict[str, Any]):
    """A dict that can hide what it holds, and show it again: the same objects.

    The caller sees to it that one thread at a time changes it.
    """

    __slots__ = ("_aside",)

    # What is held while the dict itself must not show it; None while it does.
    _aside: dict[str, Any] | None

    def _show(self) -> None:
        """Shows what is held."""
        if self._aside is not None:
            aside, self._aside = self._aside, None
            dict.update(self, aside)

    def _hide(self) -> None:
        """Sets aside what is held."""
        if self._aside is None:
            self._aside = Contents._copy_held(self)
            dict.clear(self)

    def _shows_all(self) -> bool:
        """Returns whether the dict shows all that is held."""
        return self._aside is None

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
        """Holds nothing."""
        if self._aside is None:
            dict.clear(self)
        else:
            self._aside.clear()

    def _held_count(self) -> int:
        return dict.__len__(self) if self._aside is None else len(self._aside)

    def _holds_just(self, keys: list[str]) -> bool:
        """Returns whether these are the keys that are held, in this order; without a copy of them."""
        held = dict.keys(self) if self._aside is None else self._aside.keys()
        return len(held) == len(keys) and all(map(operator.eq, held, keys))

    def _held_keys(self) -> list[str]:
        return list(dict.keys(self) if self._aside is None else self._aside)

    def _held_values(self) -> list[Any]:
        return list(dict.values(self) if self._aside is None else self._aside.values())

    def _held_items(self) -> list[tuple[str, Any]]:
        return list(dict.items(self) if self._aside is None else self._aside.items())

    def _copy_held(self) -> dict[str, Any]:
        """Returns a plain dict of what is held.

        Not dict.copy(self): for a class with an __iter__ of its own that goes through keys().
        """
        held = dict.items(self) if self._aside is None else self._aside.items()
        return {key: value for key, value in held}  # noqa: C416  # dict(view) is slower
