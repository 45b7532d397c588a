"""Servers with one deliberate mistake each, so that the proof is seen to fail where it must.

    python -m coherence.mutants MISTAKE [options of `neardict serve`]

`none` makes no mistake, and `forgetful` is none: it keeps short logs, so that a short absence is too long.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import TYPE_CHECKING, Any

from neardict_server.backends import base, memory
from neardict_server.backends.sqlite import transaction
from neardict_server.changes import hub, leases, recent, watcher
from neardict_server.serve import serve

if TYPE_CHECKING:
    from collections.abc import Callable

# One in so many goes wrong.
EVERY = 8
COMMIT_SECONDS = 0.3
HELD_BACK_SECONDS = 8.0
OVERTIME_MICROSECONDS = 5_000_000
SHORT_LOG = 500
# Tasks of mistakes, which nobody awaits.
_tasks: set[asyncio.Task[Any]] = set()


def skip_an_invalidation() -> None:
    """Some changes reach no watcher."""
    original, numbers = hub.Hub.publish, itertools.count(1)

    def publish(self: hub.Hub, domain: str, previous: int, change: base.Change) -> None:
        if next(numbers) % EVERY:
            original(self, domain, previous, change)

    hub.Hub.publish = publish  # type: ignore[method-assign]


def acknowledge_before_commit() -> None:
    """A write is acknowledged a moment before it can be read."""
    original = memory.MemoryBackend.set_value

    async def set_value(self: memory.MemoryBackend, *args: Any, **options: Any) -> base.Written:
        async def commit() -> None:
            await asyncio.sleep(COMMIT_SECONDS)
            await original(self, *args, **options)

        if options.get("condition") is not None:
            return await original(self, *args, **options)
        task = asyncio.create_task(commit())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return base.Written(base.wall_clock())

    memory.MemoryBackend.set_value = set_value  # type: ignore[method-assign]


def reply_out_of_order() -> None:
    """A look-up gets the reply that the one before it, of the same key, should have had."""
    original = memory.MemoryBackend.get_value
    held: dict[tuple[str, str], base.Lookup] = {}

    async def get_value(self: memory.MemoryBackend, domain: str, key: str) -> base.Lookup:
        reply = await original(self, domain, key)
        earlier = held.get((domain, key), reply)
        held[domain, key] = reply
        return earlier

    memory.MemoryBackend.get_value = get_value  # type: ignore[method-assign]


def repeat_a_revision() -> None:
    """Some writes are given the revision of the write before."""
    original, numbers = base.next_revision, itertools.count(1)

    def next_revision(previous: int, now: int) -> int:
        return original(previous, now) if next(numbers) % EVERY else previous

    base.next_revision = next_revision


def lose_a_write() -> None:
    """Some writes are acknowledged, and forgotten."""
    original, numbers = memory.MemoryBackend.set_value, itertools.count(1)

    async def set_value(self: memory.MemoryBackend, *args: Any, **options: Any) -> base.Written:
        if next(numbers) % EVERY:
            return await original(self, *args, **options)
        return base.Written(base.wall_clock())

    memory.MemoryBackend.set_value = set_value  # type: ignore[method-assign]


def expire_too_late() -> None:
    """What has a time to live is kept for longer."""
    original = memory.MemoryBackend.set_value

    async def set_value(self: memory.MemoryBackend, *args: Any, **options: Any) -> base.Written:
        if options.get("ttl") is not None:
            options["ttl"] += OVERTIME_MICROSECONDS
        return await original(self, *args, **options)

    memory.MemoryBackend.set_value = set_value  # type: ignore[method-assign]


def apply_a_refused_write() -> None:
    """A write whose condition does not hold is refused, and made all the same."""
    original = memory.MemoryBackend.set_value

    async def set_value(self: memory.MemoryBackend, *args: Any, **options: Any) -> base.Written:
        if options.get("condition") is not None:
            await original(self, *args, **options | {"condition": None})
        return await original(self, *args, **options)

    memory.MemoryBackend.set_value = set_value  # type: ignore[method-assign]


def overtake_changes() -> None:
    """Pings are answered at once, while some changes before them wait."""
    original, numbers = hub.Hub.publish, itertools.count(1)

    def publish(self: hub.Hub, domain: str, previous: int, change: base.Change) -> None:
        if next(numbers) % EVERY:
            original(self, domain, previous, change)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(HELD_BACK_SECONDS, original, self, domain, previous, change)

    hub.Hub.publish = publish  # type: ignore[method-assign]


def claim_that_nothing_was_missed() -> None:
    """One who resumes is told that he is up to date, whatever happened meanwhile."""
    original = memory.MemoryBackend.position

    async def position(self: memory.MemoryBackend, domain: str, from_revision: int) -> base.Position:
        return base.Position((await original(self, domain, from_revision)).revision, [])

    memory.MemoryBackend.position = position  # type: ignore[method-assign]


def ignore_leases() -> None:
    """A write does not wait for those who may serve its key from memory."""

    async def cleared(self: leases.Write) -> None:
        await asyncio.sleep(0)

    leases.Write.cleared = cleared  # type: ignore[method-assign]


def forgetful() -> None:
    """No mistake: what is remembered for those who resume, and what may wait for the slow, is little."""
    transaction.KEPT_CHANGES = transaction.FORGOTTEN_CHANGES = SHORT_LOG
    defaults = recent.RecentChanges.__init__.__defaults__
    recent.RecentChanges.__init__.__defaults__ = (SHORT_LOG, *(defaults or ())[1:])
    keywords = watcher.Watcher.__init__.__kwdefaults__ or {}
    watcher.Watcher.__init__.__kwdefaults__ = keywords | {"max_changes": SHORT_LOG}


MISTAKES: dict[str, Callable[[], None]] = {
    mistake.__name__: mistake
    for mistake in (
        skip_an_invalidation,
        acknowledge_before_commit,
        reply_out_of_order,
        repeat_a_revision,
        lose_a_write,
        expire_too_late,
        apply_a_refused_write,
        overtake_changes,
        claim_that_nothing_was_missed,
        ignore_leases,
    )
}

if __name__ == "__main__":
    if sys.argv[1] != "none":
        {**MISTAKES, "forgetful": forgetful}[sys.argv[1]]()
    serve(sys.argv[2:])
