"""What goes wrong with what several servers share."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from coherence.engines import Cluster, Copy, OneRedis, Sentinels
from coherence.history import Op, now
from coherence.workload import COLD_KEYS, HOT_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence.faults import Hands


def kill_redis(hands: Hands) -> str:
    """Redis is killed, with SIGKILL, and started again."""
    server = _redis(hands).server
    server.kill()
    hands.wait((0.0, 3.0))
    server.start()
    return "redis"


def flush_redis(hands: Hands) -> str:
    """FLUSHALL: everything is gone, the log and the revisions too."""
    begin = now()
    with closing(_redis(hands).client()) as redis, redis.pipeline(transaction=True) as together:
        together.time()
        together.flushall()
        (seconds, microseconds), _ = together.execute()
    revision = seconds * 1_000_000 + microseconds
    hands.system.recorder.op(Op("wipe", "", "", None, begin, now(), revision=revision))
    return "redis"


def suspend_redis(hands: Hands) -> str:
    """SIGSTOP of Redis, and SIGCONT."""
    with hands.system.suspended(_redis(hands).server.pid):
        hands.wait()
    return "redis"


def cut_from_redis(hands: Hands) -> str:
    """A server, though not its clients, is cut off from Redis, in silence or with resets."""
    proxy = hands.randomness.choice(_redis(hands).proxies)
    if hands.randomness.random() < 0.5:
        proxy.silence()
    else:
        proxy.refusing = True
        proxy.cut()
    hands.wait((1.0, 8.0))
    proxy.heal()
    return "server to redis"


def older_redis(hands: Hands) -> str:
    """Redis is given back a copy of itself, a few seconds old."""
    begin = now()
    copy = _redis(hands).go_back_after(hands.wait)
    _note(hands, copy, begin)
    return "redis"


def fail_over_redis(hands: Hands) -> str:
    """The primary is killed, whose replica was cut off from it; Sentinels give that its place."""
    engine = hands.system.engine
    assert isinstance(engine, Sentinels)
    begin = now()
    copy = engine.fail_over_after(lambda: hands.wait((0.0, 1.0)))
    _note(hands, copy, begin)
    return "redis"


def fail_over_node(hands: Hands) -> str:
    """The primary of the domain is killed; the Cluster gives its replica its place."""
    begin = now()
    _note(hands, _cluster(hands).fail_over(), begin)
    return "cluster"


def hand_over_node(hands: Hands) -> str:
    """The primary of the domain and its replica change places, in good order."""
    _cluster(hands).hand_over()
    return "cluster"


def move_slot(hands: Hands) -> str:
    """The domain is moved to another primary, while it is written to."""
    _cluster(hands).move()
    return "cluster"


# Those of each engine, which come beside those of faults.ANY.
BY_ENGINE: dict[str, list[Callable[[Hands], str]]] = {
    "redis": [kill_redis, suspend_redis, cut_from_redis, flush_redis, older_redis],
    "sentinel": [fail_over_redis],
    "cluster": [fail_over_node, hand_over_node, move_slot],
}


def _redis(hands: Hands) -> OneRedis:
    assert isinstance(hands.system.engine, OneRedis)
    return hands.system.engine


def _cluster(hands: Hands) -> Cluster:
    assert isinstance(hands.system.engine, Cluster)
    return hands.system.engine


def _note(hands: Hands, copy: Copy, begin: float) -> None:
    """Records that the store has become this copy."""
    end = now()
    for key in (*HOT_KEYS, *COLD_KEYS):
        value = copy.entries.get(key)
        hands.system.recorder.op(Op("restore", "", key, value, begin, end, revision=copy.revision))
