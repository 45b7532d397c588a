"""The work of an asynchronous client: tasks that write and read as they please."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import neardict
import neardict.aio
from coherence.client_mutants import ExpireByOwnClock
from coherence.history import Kind, Op, Outcome, Recorder, now
from coherence.noting import Arrivals, note_async_revisions
from coherence.workload import HOT_KEYS, NEW_READS, REFUSALS, RENEWAL, TIMEOUT_SECONDS, Plan, View

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class AsyncWork:
    """What SyncWork is, on one event loop."""

    def __init__(self, target: str, plan: Plan, recorder: Recorder) -> None:
        self._target = target
        self._plan = plan
        self._recorder = recorder
        self._renewals = 0
        self._resting = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins, once the service answers."""
        self._store = neardict.aio.connect(self._target, timeout=TIMEOUT_SECONDS)
        self._noted = note_async_revisions(self._store)
        self._views = {
            "mirror": View("mirror", await _patiently(lambda: self._dict()), whole=True),
            "cache": View("cache", await _patiently(lambda: self._dict(load=False))),
        }
        self._arrivals = Arrivals(self._plan.name, self._recorder)
        self._store.changes.subscribe(self._plan.domain, self._arrivals)
        jobs: list[tuple[Callable[[], Awaitable[None]], asyncio.Event, float]] = [
            (self._write, self._resting, 1.0),
            (lambda: self._read(self._views["mirror"]), self._closing, 2.0),
            (lambda: self._read(self._views["cache"]), self._closing, 2.0),
            (self._ask, self._closing, 1.0),
            (self._renew, self._resting, RENEWAL),
        ]
        self._tasks = [asyncio.create_task(self._repeat(*job)) for job in jobs]

    async def _dict(self, **options: Any) -> neardict.aio.CachedDict:
        return await self._store.dict(self._plan.domain, consistency=self._plan.consistency, **options)

    async def rest(self) -> None:
        """Ends the writing."""
        self._resting.set()
        await self._tasks[0]

    def spoil(self) -> object:
        """Begins to make a mistake, while what is returned is held."""
        return ExpireByOwnClock(self._store, self._plan.domain, self._views["mirror"].cache)

    async def reach(self, seconds: float) -> float:
        """Returns when the service has answered a call, or when the seconds are over."""
        deadline = now() + seconds
        while now() < deadline:
            with contextlib.suppress(neardict.NeardictError):
                await self._store.get_entry(self._plan.domain, HOT_KEYS[0])
                break
        return now()

    async def final(self) -> dict[str, dict[str, Any]]:
        """Returns what the views hold; nothing while that is not known to be right."""
        mirror, cache = self._views["mirror"].cache, self._views["cache"].cache
        try:
            await mirror.snapshot()  # a mirror that was reset is read when it is used
        except neardict.NeardictError:
            return {}
        if not (mirror.fresh and cache.fresh):
            return {}
        return {"mirror": mirror._copy_held(), "cache": cache._copy_held()}

    async def close(self) -> None:
        """Ends all tasks."""
        self._resting.set()
        self._closing.set()
        await asyncio.gather(*self._tasks)
        await self._store.close()

    async def _repeat(self, job: Callable[[], Awaitable[None]], end: asyncio.Event, times: float) -> None:
        while not end.is_set():
            await asyncio.sleep(self._plan.pause(times))
            if not end.is_set():
                await job()

    async def _write(self) -> None:
        plan = self._plan
        key, action = plan.key(), plan.action()
        value = None if action == "delete" else plan.value()
        ttl = plan.ttl(action)
        kind: Kind = "delete" if action == "delete" else "set"
        number = self._recorder.invoke(kind, plan.name, key, value, ttl)
        outcome: Outcome = "ok"
        self._noted.clear()
        try:
            if action == "delete":
                await self._store.delete_key(plan.domain, key)
            elif action == "conflict":
                await self._views["mirror"].cache.compare_and_set(key, value, 1)
            elif action in ("store", "mortal"):
                await self._store.set_value(plan.domain, key, value, ttl=ttl or None)
            else:
                await self._views[action].cache.set(key, value)
        except neardict.NeardictError as error:
            outcome = "refused" if isinstance(error, REFUSALS) else "unknown"
        self._recorder.answer(number, outcome, self._noted.revision, existed=self._noted.existed)

    async def _read(self, view: View) -> None:
        name, cache, whole = view
        key = self._plan.key()
        fresh, begin = cache.fresh, now()
        hit = dict.__contains__(cache, key)
        try:
            value = (await cache.snapshot()).get(key) if whole and self._plan.whole() else cache.get(key)
        except neardict.NotHeldError:
            try:
                value = await cache.fetch(key, None)
            except neardict.NeardictError:
                return
        except neardict.NeardictError:
            return
        end = now()
        fresh = fresh and cache.fresh
        client = self._plan.name
        self._recorder.op(
            Op(self._plan.read, client, key, value, begin, end, view=name, hit=hit, fresh=fresh)
        )

    async def _renew(self) -> None:
        kind = self._plan.view()
        try:
            made = await self._dict(load=kind == "mirror")
        except neardict.NeardictError:
            return
        self._renewals += 1
        view = View(f"{kind} {self._renewals}", made, whole=kind == "mirror")
        for _ in range(NEW_READS):
            await self._read(view)
            await asyncio.sleep(self._plan.pause(4.0))

    async def _ask(self) -> None:
        key = self._plan.key()
        begin = now()
        try:
            entry = await self._store.get_entry(self._plan.domain, key)
        except neardict.NeardictError:
            return
        value, revision = (entry.value, entry.revision) if entry is not None else (None, 0)
        self._recorder.op(Op("ask", self._plan.name, key, value, begin, now(), revision=revision))


async def _patiently(make: Callable[[], Awaitable[Any]]) -> Any:
    """A client may start while the service is away: then it is tried again until the process is ended."""
    while True:
        try:
            return await make()
        except neardict.NeardictError:
            await asyncio.sleep(0.05)
