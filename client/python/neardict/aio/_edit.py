"""Changing a value without losing anybody else's change: compare-and-set, as a block or as a function."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._edit import conflict, pauses
from ..errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cached_dict import CachedDict


class Edit:
    """The block form of `CachedDict.edit`: one attempt."""

    def __init__(self, cache: CachedDict, key: str, default: Any) -> None:
        self._cache = cache
        self._key = key
        self._default = default

    async def __aenter__(self) -> Any:
        self._value, self._revision = await self._cache.fresh_copy(self._key, self._default)
        return self._value

    async def __aexit__(self, exc_type: object, *exc_info: object) -> None:
        if exc_type is not None:
            return
        try:
            await self._cache.compare_and_set(self._key, self._value, self._revision)
        except ConflictError as error:
            raise conflict(self._key, error) from None


async def edit(
    cache: CachedDict, key: str, change: Callable[[Any], Any], default: Any, timeout: float
) -> Any:
    """The function form of `CachedDict.edit`: attempts until one succeeds or the time is over."""
    for pause in pauses(timeout):
        value, revision = await cache.fresh_copy(key, default)
        changed = change(value)
        if changed is None:
            changed = value
        try:
            await cache.compare_and_set(key, changed, revision)
        except ConflictError:
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return changed
    raise AssertionError("pauses end with None")
