"""Changing a value without losing anybody else's change: compare-and-set, as a block or as a function."""

from __future__ import annotations

import copy
import itertools
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from . import _timeouts
from ._backoff import Backoff
from ._contents import MISSING
from ._terms import DEFAULT
from ._value_type import V
from .errors import AbsentKeyError, ConflictError, DeadlineExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._edited import Change
    from ._terms import Terms, Ttl
    from .cached_dict import CachedDict
    from .entry import Entry

# Between attempts, so that several editors of one key do not run into each other in step.
_BACKOFF = Backoff(0.001, 0.05)
# A listing may take longer than a call, and what happened meanwhile is looked up then: so often it is tried.
LEAST_ATTEMPTS = 10


class Draft(NamedTuple):
    """A copy of a stored value, of nobody else, or of a default at the revision 0. `expires`: some day."""

    value: Any
    revision: int = 0
    expires: bool = False

    @classmethod
    def of(cls, entry: Entry | None, key: str, default: Any, terms: Terms) -> Draft:
        """Returns a copy of the entry's value, or of the default if there is none. Raises AbsentKeyError."""
        if entry is not None:
            return cls(terms.checked(entry.value), entry.revision, entry.expire_time is not None)
        if default is MISSING:
            raise AbsentKeyError(key)
        return cls(copy.deepcopy(default))

    def options(self, ttl: Ttl) -> dict[str, Any]:
        """Returns how to store what was made of it: for as long as it would live, unless a ttl is given."""
        # What does not expire need not be kept so: there is nothing to lose at this very revision.
        return {"keep_ttl": True} if ttl is DEFAULT and self.expires else {"ttl": self._ttl(ttl)}

    def _ttl(self, ttl: Ttl) -> Ttl:
        # The dict's default is for new entries alone.
        return None if ttl is DEFAULT and self.revision else ttl


def pauses(timeout: float) -> Iterator[float | None]:
    """Yields how long to wait after a failed attempt, and None, last, when `timeout` seconds are over.

    So an attempt is made after each, and nothing comes after the last.
    """
    deadline = time.monotonic() + _timeouts.check(timeout)
    for failures in itertools.count(1):
        if time.monotonic() >= deadline:
            break
        yield _BACKOFF.wait(failures)
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
    """Returns the error for a block whose entry is another one now, or is gone."""
    what = "was written by somebody else" if error.current_revision else "was deleted, or has expired,"
    return ConflictError(
        f"{key!r} {what} during the edit, which is not stored: edit it again, or use d.edit(key, function), "
        "which starts over by itself",
        reason=error.reason,
        current_revision=error.current_revision,
    )


class Edit(Generic[V]):
    """The block form of `CachedDict.edit`: one attempt."""

    def __init__(self, cache: CachedDict[V], key: str, default: Any, ttl: Ttl) -> None:
        self._cache = cache
        self._key = key
        self._default = default
        self._ttl = ttl

    def __enter__(self) -> V:
        self._draft = self._cache._draft(self._key, self._default)
        value: V = self._draft.value
        return value

    def __exit__(self, exc_type: object, *exc_info: object) -> None:
        if exc_type is not None:
            return
        try:
            self._cache._store_draft(self._key, self._draft.value, self._draft, self._ttl)
        except ConflictError as error:
            raise conflict(self._key, error) from None


def edit(cache: CachedDict[V], key: str, change: Change, default: Any, ttl: Ttl, timeout: float) -> V:
    """The function form of `CachedDict.edit`: attempts until one succeeds or the time is over."""
    for pause in pauses(timeout):
        draft = cache._draft(key, default)
        changed: V = change.apply(key, draft.value)
        try:
            cache._store_draft(key, changed, draft, ttl)
        except ConflictError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return changed
    raise AssertionError("pauses end with None")
