"""Things that went wrong while a command went on: some are shown when it ends, all are counted."""

from . import output

_SHOWN = 20


class Complaints:
    """Keeps the first few, so that a million of them fill neither the memory nor the screen."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, message: str) -> None:
        self.count += 1
        if len(self._first) < _SHOWN:
            self._first.append(message)

    def show(self, advice: str = "") -> None:
        """Prints them on the error output; `advice` tells where the rest can be had."""
        for message in self._first:
            output.complain(message)
        if self.count > len(self._first):
            output.complain(f"and {self.count - len(self._first)} more{advice}")
