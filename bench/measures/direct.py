"""redis-py's synchronous client itself: one thread, and pipelines of many keys."""

import contextlib
from collections.abc import Callable
from typing import Any

import neardict

from .. import load
from ..backends import RedisServer, one
from ..floors import Row, median_rate
from ..operations import DOMAIN, KEYS, VALUE, key
from ..peers import redis
from ..turns import Take, take_turns
from .size import Size


def sync(size: Size) -> list[Row]:
    """Ours goes through the service to the very Redis that the peer talks to itself."""
    keys = [key(number) for number in range(KEYS)]
    values = dict.fromkeys(keys, VALUE)
    with (
        RedisServer() as server,
        one("redis", server) as served,
        neardict.connect(served.address) as store,
        contextlib.closing(redis.SyncRedis(server)) as peer,
    ):
        store.set_many(DOMAIN, values)
        peer.set_many(keys)

        def rate(call: Callable[[int], Any], entries: int = 1) -> Take:
            return lambda: entries * load.run_sync(call, load.lasting(size.seconds)).rate

        def row(name: str, title: str, ours: Take, peer: str, theirs: Take) -> Row:
            turns = take_turns(ours, theirs, size.rounds)
            words = f"{peer}: {median_rate(turns.peer)}"
            return Row(name, title, median_rate(turns.ours), words, turns.ratios)

        return [
            row(
                "redis_gets",
                "gets on redis, sync, 1 thread",
                rate(lambda number: store.get_value(DOMAIN, key(number))),
                "redis-py",
                rate(peer.get),
            ),
            row(
                "redis_sets",
                "sets on redis, sync, 1 thread",
                rate(lambda number: store.set_value(DOMAIN, key(number), VALUE)),
                "redis-py",
                rate(peer.set),
            ),
            row(
                "redis_get_many",
                f"`get_many` of {KEYS:,} keys on redis, sync, keys/s",
                rate(lambda _: store.get_many(DOMAIN, keys), KEYS),
                "redis-py's pipeline",
                rate(lambda _: peer.get_many(keys), KEYS),
            ),
            row(
                "redis_set_many",
                f"`set_many` of {KEYS:,} keys on redis, sync, keys/s",
                rate(lambda _: store.set_many(DOMAIN, values), KEYS),
                "redis-py's pipeline",
                rate(lambda _: peer.set_many(keys), KEYS),
            ),
        ]
