"""Mirrors of a service that lost what it had: nothing has to be called."""

import asyncio

from neardict import NotHeldError, aio
from served import Served


async def test_with_asyncio_a_mirror_reads_the_domain_anew_by_itself(own_server: Served) -> None:
    async with aio.connect(own_server.address) as store:
        d = await store.dict("d")
        await d.set("old", 1)
        own_server.kill()
        async with asyncio.timeout(20):
            while "old" in dict(dict.items(d)):
                await asyncio.sleep(0.01)
            with Served(*own_server._args[3:-2], "--listen", own_server.address):
                await store.set_value("d", "new", 2)
                while True:
                    try:
                        if dict(d) == {"new": 2}:
                            break
                    except NotHeldError:
                        pass
                    await asyncio.sleep(0.01)
                assert d["new"] == 2
                assert d.get("old") is None
                assert d.fresh
