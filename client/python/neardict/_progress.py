"""Tells a program how far the loading of a mirror is."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import _callbacks
from ._where import where
from .errors import InvalidArgumentError

logger = logging.getLogger(__name__)

# Takes how many entries have come, and about how many there are, None if nobody knows.
OnProgress = Callable[[int, int | None], object]


class Progress:
    """Calls back in the course of one listing."""

    def __init__(self, callback: OnProgress) -> None:
        _callbacks.check("on_progress", callback)
        self._callback = callback
        self._failed = False
        self._told: tuple[int, int | None] | None = None

    def tell(self, loaded: int, total: int | None) -> None:
        """What the callback raises is logged, the first time, and does not end the listing."""
        if (loaded, total) in (self._told, (0, None)):
            return  # it says nothing new
        self._told = loaded, total
        try:
            self._callback(loaded, total)
        except Exception as error:
            if not self._failed:
                logger.error("a callback of on_progress raised %s; it is called again", where(error))
            self._failed = True


def check(callback: OnProgress | None, *, load: bool) -> None:
    """Raises InvalidArgumentError if nothing will be loaded that could be told of."""
    if callback is not None and not load:
        raise InvalidArgumentError("on_progress tells how far loading is: leave it out with load=False")
