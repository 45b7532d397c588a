"""A dict whose hits are linearizable, for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lease import LeasedDict
from .._value_type import V
from .cached_dict import CachedDict


class LinearizableDict(LeasedDict, CachedDict[V]):
    """What neardict.LinearizableDict is, for asyncio. Made by `await Store.dict`.

    While a key is being written, or the lease is not renewed, `d[key]` raises NotHeldError, and
    `await d.fetch(key)` asks the service.
    """

    __slots__ = ("_revoked",)

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> V: ...
