"""A hit beside a plain dict, and beside the caches that a program may hold itself.

What they do differs: a plain dict, cachetools and Moobius' CachedDict hear of no other process. Values are as
the cache gives them: those of redis-py are bytes, not yet decoded.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cachetools
import diskcache
from key_value.aio.stores.redis import RedisStore
from moobius.database.json_database import JSONDatabase  # type: ignore[import-untyped]  # it has no types
from moobius.database.storage import CachedDict as MoobiusDict  # type: ignore[import-untyped]  # as above

import neardict

from .. import hit
from ..backends import RedisServer, one
from ..filling import fill
from ..floors import Floor, Row, median_time
from ..operations import DOMAIN, KEYS, VALUE, key
from ..peers import redis
from ..turns import Take, take_turns
from .size import Size

LOOK_UPS = 20_000
TIMES = 5
_ITEM = hit.Statement("d[k]", "for k in keys: d[k]", KEYS)
_GET = hit.Statement("d.get(k)", "for k in keys: d.get(k)", KEYS)


def plain(size: Size) -> list[Row]:
    """Beside the dict that the mirror's own copy is."""
    with _mirror() as mirror:
        turns = take_turns(_timer(_ITEM, mirror), _timer(_ITEM, mirror.snapshot()), size.hit_rounds)
    return [
        Row(
            "hit",
            "`d[k]` hit, stream live, against a plain dict",
            median_time(turns.ours),
            f"plain dict: {median_time(turns.peer)}",
            turns.ratios,
            Floor(2.0, most=True),
        )
    ]


def client_side_cache(size: Size) -> list[Row]:
    """Beside redis-py's own cache, which also hears of changes."""
    with redis.caching() as client:
        take = _timer(_GET, client, KEYS)
        return [_quicker("hit_client_side_cache", "redis-py's client-side cache", take, size, Floor(500))]


def lru(size: Size) -> list[Row]:
    """Beside a cache in the same process that never hears of changes."""
    cache: Any = cachetools.LRUCache(2 * KEYS)
    cache.update(_values())
    return [_quicker("hit_cachetools", "cachetools' LRUCache", _timer(_ITEM, cache), size)]


def disk(size: Size) -> list[Row]:
    """Beside a cache in a file, which processes of one machine share."""
    with tempfile.TemporaryDirectory(prefix="neardict-disk-") as folder, diskcache.Cache(folder) as cache:
        for name, value in _values().items():
            cache[name] = value
        return [_quicker("hit_diskcache", "diskcache", _timer(_ITEM, cache, KEYS), size)]


def py_key_value(size: Size) -> list[Row]:
    """Beside a store that asks Redis each time."""
    keys = hit.shuffled_keys()
    with RedisServer() as server, asyncio.Runner() as runner:
        store = RedisStore(url=server.url, default_collection=DOMAIN)

        async def prepare() -> None:
            for name, value in _values().items():
                await store.put(name, value)
            if await store.get(key(0)) != VALUE:
                raise AssertionError("py-key-value does not return what was put")

        async def get_all() -> float:
            began = time.perf_counter_ns()
            for name in keys:
                await store.get(name)
            return (time.perf_counter_ns() - began) / len(keys)

        runner.run(prepare())
        row = _quicker("hit_py_key_value", "py-key-value on Redis", lambda: runner.run(get_all()), size)
        runner.run(store.close())
    return [row]


def moobius(size: Size) -> list[Row]:
    """Beside the original, which hears of no change either."""
    with tempfile.TemporaryDirectory(prefix="neardict-moobius-") as folder:
        theirs = MoobiusDict(JSONDatabase(DOMAIN, root_dir=folder))
        for name, value in _values().items():
            theirs[name] = value
        return [_quicker("hit_moobius", "the Moobius SDK's CachedDict", _timer(_ITEM, theirs), size)]


def _quicker(name: str, peer: str, theirs: Take, size: Size, floor: Floor | None = None) -> Row:
    """Returns the row that says how many times as long the peer takes."""
    with _mirror() as mirror:
        turns = take_turns(_timer(_ITEM, mirror), theirs, size.hit_rounds)
    title = f"`d[k]` hit, times quicker than {peer}"
    return Row(name, title, median_time(turns.ours), median_time(turns.peer), turns.inverse, floor)


def _timer(statement: hit.Statement, target: Any, look_ups: int = LOOK_UPS) -> Take:
    """Returns what takes the least of a few times, since one is so short that anything may befall it."""
    take = hit.timer(statement, target, hit.shuffled_keys(), key(0), look_ups=look_ups)
    return lambda: min(take() for _ in range(TIMES))


def _values() -> dict[str, Any]:
    return {key(number): VALUE for number in range(KEYS)}


@contextmanager
def _mirror() -> Iterator[neardict.CachedDict]:
    """Gives a mirror of the keys. Raises AssertionError if in the end its stream of changes is not open."""
    with one("memory") as served:
        fill(served.address)
        with neardict.connect(served.address) as store:
            mirror = store.dict(DOMAIN)
            if len(mirror) != KEYS:
                raise AssertionError(f"the mirror holds {len(mirror)} entries, not {KEYS}")
            yield mirror
            if not mirror.fresh:
                raise AssertionError("the stream of changes does not vouch for the mirror any more")
