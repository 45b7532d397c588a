"""A dict whose hits are linearizable, for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .._contents import MISSING
from .._lease import LeasedDict
from .._value_type import V
from .cached_dict import CachedDict

if TYPE_CHECKING:
    from collections.abc import Iterable


_Other = TypeVar("_Other")


class LinearizableDict(LeasedDict, CachedDict[V]):
    """What neardict.LinearizableDict is, for asyncio. Made by `await Store.dict`.

    While a key is being written, or the lease is not renewed, `d[key]` raises NotHeldError, and
    `await d.fetch(key)` asks the service.
    """

    __slots__ = ("_lease", "_revoked")

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> V: ...

    def _need_whole(self) -> None:
        self._look_at_clock()
        super()._need_whole()

    async def fetch(self, key: object, default: V | _Other = MISSING) -> V | _Other:
        """Returns the value, from the service if it is not held; the default, or KeyError, if absent."""
        self._look_at_clock()
        return await super().fetch(key, default)

    async def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Returns the values of those keys that have one, asking for all that are not held at once."""
        self._look_at_clock()
        return await super().get_many(keys)

    async def snapshot(self) -> dict[str, V]:
        """Returns a plain dict of the whole domain, asking the service unless this is a whole mirror."""
        self._look_at_clock()
        return await super().snapshot()
