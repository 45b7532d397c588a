"""The work of a synchronous client: threads that write and read as they please."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import neardict
from coherence.client_mutants import ExpireByOwnClock
from coherence.history import Kind, Op, Outcome, Recorder, now
from coherence.noting import Arrivals, note_revisions
from coherence.workload import HOT_KEYS, NEW_READS, REFUSALS, RENEWAL, TIMEOUT_SECONDS, Plan, View

if TYPE_CHECKING:
    from collections.abc import Callable


class SyncWork:
    """One store with a mirror and a cache; a writer, a reader of each, and one who asks the service."""

    def __init__(self, target: str, plan: Plan, recorder: Recorder) -> None:
        self._plan = plan
        self._recorder = recorder
        self._store = neardict.connect(target, timeout=TIMEOUT_SECONDS)
        self._noted = note_revisions(self._store)
        self._renewals = 0
        self._resting = threading.Event()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins, once the service answers."""
        self._views = {
            "mirror": View("mirror", _patiently(lambda: self._dict()), whole=True),
            "cache": View("cache", _patiently(lambda: self._dict(load=False))),
        }
        self._arrivals = Arrivals(self._plan.name, self._recorder)
        self._store.changes.subscribe(self._plan.domain, self._arrivals)
        jobs = [
            (self._write, self._resting, 1.0),
            (lambda: self._read(self._views["mirror"]), self._closing, 2.0),
            (lambda: self._read(self._views["cache"]), self._closing, 2.0),
            (self._ask, self._closing, 1.0),
            (self._renew, self._resting, RENEWAL),
        ]
        for job, end, times in jobs:
            thread = threading.Thread(target=self._repeat, args=(job, end, times), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _dict(self, **options: Any) -> neardict.CachedDict:
        return self._store.dict(self._plan.domain, consistency=self._plan.consistency, **options)

    def rest(self) -> None:
        """Ends the writing."""
        self._resting.set()
        self._threads[0].join()

    def spoil(self) -> object:
        """Begins to make a mistake, while what is returned is held."""
        return ExpireByOwnClock(self._store, self._plan.domain, self._views["mirror"].cache)

    def reach(self, seconds: float) -> float:
        """Returns when the service has answered a call, or when the seconds are over."""
        deadline = now() + seconds
        while now() < deadline:
            with contextlib.suppress(neardict.NeardictError):
                self._store.get_entry(self._plan.domain, HOT_KEYS[0])
                break
        return now()

    def final(self) -> dict[str, dict[str, Any]]:
        """Returns what the views hold; nothing while that is not known to be right."""
        mirror, cache = self._views["mirror"].cache, self._views["cache"].cache
        try:
            mirror.snapshot()  # a mirror that was reset is read when it is used
        except neardict.NeardictError:
            return {}
        if not (mirror.fresh and cache.fresh):
            return {}
        return {"mirror": mirror._copy_held(), "cache": cache._copy_held()}

    def close(self) -> None:
        """Ends all threads."""
        self._resting.set()
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._store.close()

    def _repeat(self, job: Callable[[], None], end: threading.Event, times: float) -> None:
        while not end.wait(self._plan.pause(times)):
            job()

    def _write(self) -> None:
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
                self._store.delete_key(plan.domain, key)
            elif action == "conflict":
                self._views["mirror"].cache.compare_and_set(key, value, 1)
            elif action in ("store", "mortal"):
                self._store.set_value(plan.domain, key, value, ttl=ttl or None)
            else:
                self._views[action].cache[key] = value
        except neardict.NeardictError as error:
            outcome = "refused" if isinstance(error, REFUSALS) else "unknown"
        self._recorder.answer(number, outcome, self._noted.revision, existed=self._noted.existed)

    def _read(self, view: View) -> None:
        name, cache, whole = view
        key = self._plan.key()
        fresh, begin = cache.fresh, now()
        hit = dict.__contains__(cache, key)
        try:
            value = (cache.snapshot() if whole and self._plan.whole() else cache).get(key)
        except neardict.NeardictError:
            return
        end = now()
        fresh = fresh and cache.fresh
        client = self._plan.name
        self._recorder.op(
            Op(self._plan.read, client, key, value, begin, end, view=name, hit=hit, fresh=fresh)
        )

    def _renew(self) -> None:
        kind = self._plan.view()
        try:
            made = self._dict(load=kind == "mirror")
        except neardict.NeardictError:
            return
        self._renewals += 1
        view = View(f"{kind} {self._renewals}", made, whole=kind == "mirror")
        for _ in range(NEW_READS):
            self._read(view)
            self._closing.wait(self._plan.pause(4.0))

    def _ask(self) -> None:
        key = self._plan.key()
        begin = now()
        try:
            entry = self._store.get_entry(self._plan.domain, key)
        except neardict.NeardictError:
            return
        value, revision = (entry.value, entry.revision) if entry is not None else (None, 0)
        self._recorder.op(Op("ask", self._plan.name, key, value, begin, now(), revision=revision))


def _patiently(make: Callable[[], Any]) -> Any:
    """A client may start while the service is away: then it is tried again until the process is ended."""
    while True:
        try:
            return make()
        except neardict.NeardictError:
            continue
