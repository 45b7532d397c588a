"""SQL over many rows at once: each statement costs as much as several rows, and gives up the GIL once."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

# How many rows, or values, one statement takes. Few sizes, so that they stay prepared.
MOST_VALUES = 64
_SIZES = (MOST_VALUES, 32, 8, 1)


class Insertion:
    """An INSERT of rows. `conflict` is its ON CONFLICT clause; without one there must be no conflict.

    With `replace` a row that conflicts is deleted first.
    """

    def __init__(self, into: str, columns: int, conflict: str = "", *, replace: bool = False) -> None:
        self._start, self._conflict, self._replace = into, conflict, replace
        self._row = f"({', '.join('?' * columns)})"
        self._text = functools.cache(self._of_size)

    def statements(self, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yields statements that insert the rows, in order, each with its parameters."""
        start = 0
        for size in _SIZES:
            while len(rows) - start >= size:
                yield self._text(size), tuple(chain.from_iterable(rows[start : start + size]))
                start += size

    def _of_size(self, size: int) -> str:
        # FAIL needs no journal to undo the statement alone, which would cost more than the rows: whoever
        # meets an error here undoes the transaction.
        action = "REPLACE" if self._replace else "INSERT" if self._conflict else "INSERT OR FAIL"
        return f"{action} INTO {self._start} VALUES {', '.join([self._row] * size)} {self._conflict}"


class Choice:
    """A statement on those rows that have one of many values; it ends where the list of them belongs."""

    def __init__(self, text: str, end: str = "") -> None:
        self._of_size = functools.cache(lambda size: f"{text} ({', '.join('?' * size)}) {end}")

    def statements(
        self, fixed: Sequence[Any], values: Iterable[Any], *, after: Sequence[Any] = ()
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yields statements for all values; `fixed` are the parameters before them, `after` those behind."""
        values = list(values)
        for start in range(0, len(values), MOST_VALUES):
            part = values[start : start + MOST_VALUES]
            size = min(size for size in _SIZES if size >= len(part))
            part += part[-1:] * (size - len(part))
            yield self._of_size(size), (*fixed, *part, *after)
