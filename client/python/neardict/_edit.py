"""Changing a value without losing anybody else's change: compare-and-set, as a block or as a function."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import _timeouts
from ._retries import CHANCE
from .errors import ConflictError, DeadlineExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .cached_dict import CachedDict

# Between attempts, so that several editors of one key do not run into each other in step.
_FIRST_PAUSE = 0.001  # seconds
_LONGEST_PAUSE = 0.05
# A listing may take longer than a call, and what happened meanwhile is looked up then: so often it is tried.
LEAST_ATTEMPTS = 10


def pauses(timeout: float) -> Iterator[float | None]:
    """Yields how long to wait after a failed attempt, and None, last, when `timeout` seconds are over.

    So an attempt is made after each, and nothing comes after the last.
    """
    deadline = time.monotonic() + _timeouts.check(timeout)
    longest = _FIRST_PAUSE
    while time.monotonic() < deadline:
        yield CHANCE.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)
    yield None


def unsettled(domain: str, key: str) -> DeadlineExceededError:
    """Returns the error for a key of which the service has told, all the time, what does not fit together."""
    return DeadlineExceededError(
        f"the key {key!r} of the domain {domain!r} could not be settled in time: each answer was older than "
        "what the service has told before, or somebody else was faster; try again, and check the service if "
        "it stays so"
    )


def not_whole(domain: str) -> UnavailableError:
    """Returns the error for a domain that was listed again and again, and is not known to be whole."""
    return UnavailableError(
        f"the domain {domain!r} could not be read as a whole: changes were lost, or writes failed, during "
        "each attempt; try again, and check the service if it stays so"
    )


def conflict(key: str, error: ConflictError) -> ConflictError:
    """Returns the error for a block whose value somebody else has written meanwhile."""
    return ConflictError(
        f"{key!r} was written by somebody else during the edit, which is not stored: edit it again, or "
        "use d.edit(key, function), which starts over by itself",
        reason=error.reason,
        current_revision=error.current_revision,
    )


class Edit:
    """The block form of `CachedDict.edit`: one attempt."""

    def __init__(self, cache: CachedDict, key: str, default: Any) -> None:
        self._cache = cache
        self._key = key
        self._default = default

    def __enter__(self) -> Any:
        self._value, self._revision = self._cache.fresh_copy(self._key, self._default)
        return self._value

    def __exit__(self, exc_type: object, *exc_info: object) -> None:
        if exc_type is not None:
            return
        try:
            self._cache.compare_and_set(self._key, self._value, self._revision)
        except ConflictError as error:
            raise conflict(self._key, error) from None


def edit(cache: CachedDict, key: str, change: Callable[[Any], Any], default: Any, timeout: float) -> Any:
    """The function form of `CachedDict.edit`: attempts until one succeeds or the time is over."""
    for pause in pauses(timeout):
        value, revision = cache.fresh_copy(key, default)
        changed = change(value)
        if changed is None:
            changed = value
        try:
            cache.compare_and_set(key, changed, revision)
        except ConflictError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return changed
    raise AssertionError("pauses end with None")
