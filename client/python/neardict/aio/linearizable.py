"""A dict whose hits are linearizable, for asyncio."""

from __future__ import annotations

from .._lease import LeasedDict
from .cached_dict import CachedDict


class LinearizableDict(LeasedDict, CachedDict):
    """What neardict.LinearizableDict is, for asyncio. Made by `await Store.dict`.

    While a key is being written, or the lease is not renewed, `d[key]` raises NotHeldError, and
    `await d.fetch(key)` asks the service.
    """

    __slots__ = ("_revoked",)
