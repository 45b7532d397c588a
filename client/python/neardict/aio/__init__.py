"""The asyncio client: the same store and dict, with `await` where the service is asked.

A first program:

    import asyncio

    from neardict import aio

    async def main():
        async with aio.connect() as store:
            scores = await store.dict("game.scores")
            await scores.set("alice", {"points": 3})
            print(scores["alice"]["points"])

    asyncio.run(main())
"""

from ._connect import connect
from .cached_dict import CachedDict
from .linearizable import LinearizableDict
from .store import Store

__all__ = ["CachedDict", "LinearizableDict", "Store", "connect"]
