"""A dict whose hits are linearizable, for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._lease import LeasedDict
from .._value_type import V
from .cached_dict import CachedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .._changes import Changes


class LinearizableDict(LeasedDict[V], CachedDict[V]):
    """What neardict.LinearizableDict is, for asyncio. Made by `await Store.dict`.

    While a key is being written, or the lease is not renewed, `d[key]` raises NotHeldError, and
    `await d.fetch(key)` asks the service. A write by the same store returns when `d[key]` shows it, unless
    another one of the key has begun meanwhile.
    """

    __slots__ = ("_releases", "_revoked")

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> V: ...

    def _begin(self) -> None:
        super()._begin()
        # Who waits for the end of a write, by its number.
        self._releases: dict[int, asyncio.Future[None]] = {}

    def release(self, key: str, number: int) -> None:
        """Shows again what is held under the key, unless another write of it goes on; for this package."""
        super().release(key, number)
        released = self._releases.pop(number, None)
        if released is not None and not released.get_loop().is_closed():
            released.set_result(None)

    def _ends(self, keys: Collection[str]) -> Iterable[asyncio.Future[None]]:
        """Yields what is done when the writes of the keys that go on now are over."""
        for number in [number for key in keys for number in self.revocations(key)]:
            if number not in self._releases:
                self._releases[number] = asyncio.get_running_loop().create_future()
            yield self._releases[number]


def ends(
    changes: Changes, domain: str, keys: Collection[str]
) -> dict[asyncio.Future[None], LinearizableDict]:
    """Returns what is done when the writes of the keys that go on now are over, or nobody will tell.

    Until then linearizable dicts do not show them. The end of a write reaches them on another stream than its
    acknowledgement, and who reads them cannot wait. Each comes with the dict that is told of it, which has to
    be held until then.
    """
    return {
        end: listener
        for listener in changes.leaseholders(domain)
        if isinstance(listener, LinearizableDict)
        for end in listener._ends(keys)
    }
