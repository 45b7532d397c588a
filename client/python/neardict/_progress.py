"""Tells a program how far the loading of a mirror is."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

from ._where import where
from .errors import InvalidArgumentError

logger = logging.getLogger(__name__)

# Takes how many entries have come, and about how many there are, None if nobody knows.
OnProgress = Callable[[int, int | None], object]


class Progress:
    """Calls back in the course of one listing."""

    def __init__(self, callback: OnProgress) -> None:
        if inspect.iscoroutinefunction(callback):
            raise InvalidArgumentError("on_progress must be a plain function, which does not wait")
        self._callback = callback
        self._failed = False

    def tell(self, loaded: int, total: int | None) -> None:
        """What the callback raises is logged, the first time, and does not end the listing."""
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
