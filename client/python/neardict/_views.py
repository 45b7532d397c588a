"""Views of a dict that changes under its reader: each iteration is over a snapshot of its own."""

from __future__ import annotations

from collections import abc
from typing import TYPE_CHECKING, Any

from ._value_type import V

if TYPE_CHECKING:
    from collections.abc import Iterator


class KeysView(abc.KeysView[str]):
    """Set-like, as `dict.keys()`."""

    _mapping: Any  # a dict of either client

    def __iter__(self) -> Iterator[str]:
        keys: Iterator[str] = iter(self._mapping)
        return keys

    def __reversed__(self) -> Iterator[str]:
        keys: Iterator[str] = reversed(self._mapping)
        return keys

    def __repr__(self) -> str:
        return f"dict_keys({list(self)!r})"


class ValuesView(abc.ValuesView[V]):
    """As `dict.values()`."""

    _mapping: Any

    def __iter__(self) -> Iterator[V]:
        return iter(self._mapping._values_now())

    def __contains__(self, value: object) -> bool:
        return value in self._mapping._values_now()

    def __reversed__(self) -> Iterator[V]:
        return iter(self._mapping._values_now()[::-1])

    def __repr__(self) -> str:
        return f"dict_values({list(self)!r})"


class ItemsView(abc.ItemsView[str, V]):
    """Set-like, as `dict.items()`."""

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return iter(self._mapping._items_now())

    def __reversed__(self) -> Iterator[tuple[str, V]]:
        return iter(self._mapping._items_now()[::-1])

    def __repr__(self) -> str:
        return f"dict_items({list(self)!r})"
