"""Changing a value without losing anybody else's change: compare-and-set, as a block or as a function."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic

from .._edit import conflict, pauses
from .._value_type import V
from ..errors import ConflictError

if TYPE_CHECKING:
    from .._edited import Change
    from .._terms import Ttl
    from .cached_dict import CachedDict


class Edit(Generic[V]):
    """The block form of `CachedDict.edit`: one attempt."""

    def __init__(self, cache: CachedDict[V], key: str, default: Any, ttl: Ttl) -> None:
        self._cache = cache
        self._key = key
        self._default = default
        self._ttl = ttl

    async def __aenter__(self) -> V:
        self._draft = await self._cache._draft(self._key, self._default)
        value: V = self._draft.value
        return value

    async def __aexit__(self, exc_type: object, *exc_info: object) -> None:
        if exc_type is not None:
            return
        try:
            await self._cache._store_draft(self._key, self._draft.value, self._draft, self._ttl)
        except ConflictError as error:
            raise conflict(self._key, error) from None


async def edit(cache: CachedDict[V], key: str, change: Change, default: Any, ttl: Ttl, timeout: float) -> V:
    """The function form of `CachedDict.edit`: attempts until one succeeds or the time is over."""
    for pause in pauses(timeout):
        draft = await cache._draft(key, default)
        changed: V = change.apply(key, draft.value)
        try:
            await cache._store_draft(key, changed, draft, ttl)
        except ConflictError:
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return changed
    raise AssertionError("pauses end with None")
