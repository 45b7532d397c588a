"""A near dict that tells what happens in it: to callbacks, in numbers, and to an auditor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._changes import NOT_SENT
from ._listing import ListedDict
from ._observers import ABSENT, UNKNOWN, Observer
from ._value_type import V
from .errors import CapabilityMissingError, UndecodableValueError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ._changes import Change
    from ._stats import Stats


class ObservedDict(ListedDict[V]):
    """Adds `on_change`, `stats` and what an auditor needs. No I/O, as in NearDict."""

    __slots__ = ("_observers",)

    def _begin(self) -> None:
        super()._begin()
        self._observers: tuple[Observer, ...] = ()

    @property
    def stats(self) -> Stats:
        """What happened in this dict so far, in numbers. Hits are not counted: no code of ours sees them."""
        with self._lock:
            return self._counts.stats(entries=self._held_count(), absences=len(self._absent))

    def on_change(
        self,
        callback: Callable[[str, Any, int], object],
        *,
        on_reset: Callable[[], object] | None = None,
    ) -> Observer:
        """Calls `callback(key, value, revision)` for each change of the domain, whoever makes it.

        `value` is `neardict.ABSENT` for a key that was deleted or has expired, and `neardict.UNKNOWN` for a
        value that is too large to come with its change, or does not fit its class: `d[key]` tells more.
        The dict shows the change by then, or a later one. Changes come in the order of their revisions; of
        several changes of a key, the last may come alone. When changes may have been missed, since the
        service could not tell them after an interruption, `on_reset()` is called.

        Callbacks run one at a time, in a thread of the store, in which they may use the dict; with asyncio
        on the event loop. What one raises is logged. They end when the dict or its store does, or with
        `cancel()` of what this returns.
        """
        if self._store.changes.session is None:
            raise CapabilityMissingError(
                "nobody tells of changes here: on_change needs a neardict service, and connect(watch=True)"
            )
        observer = Observer(self, callback, on_reset, self._store.tell)
        with self._lock:
            self._observers = (*(one for one in self._observers if not one.cancelled), observer)
        return observer

    # What the store tells.

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        before = self._versions.held.get(change.key)
        super().apply(change)
        with self._lock:
            if before is not None and self._versions.held.get(change.key) != before:
                self._counts.invalidations += 1
            if change.streamed:
                self._counts.changes += 1
                for observer in self._observers:
                    observer.notice(change)

    def freshen(self) -> None:
        """Shows what is held, which is up to date; for this package."""
        with self._lock:
            self._counts.freshened += not self._fresh
            super().freshen()

    def reset(self) -> None:
        """Drops all that is held; for this package."""
        with self._lock:
            super().reset()
            self._counts.resets += self._counts.freshened > 0
            for observer in self._observers:
                observer.reset()

    def value_of(self, change: Change) -> Any:
        """Returns the value that the change has written, the very object if it is held, or a Marker."""
        with self._lock:
            if self._versions.held.get(change.key) == change.revision:
                return self._peek(change.key)
        if change.value is None:
            return ABSENT
        if change.value is NOT_SENT:
            return UNKNOWN
        try:
            return self._decode(change.value)
        except UndecodableValueError:
            return UNKNOWN

    # What the auditor asks.

    def shown_sample(self, count: int, choice: random.Random) -> list[tuple[str, int]]:
        """Returns some keys that are shown as up to date now, with their revisions."""
        with self._lock:
            if not self.fresh or self._aside is not None:
                return []
            keys = self._shown_keys()
            sample = choice.sample(keys, min(count, len(keys)))
            held = self._versions.held
            return [(key, held[key]) for key in sample if key in held]

    def shown_revision(self, key: str) -> int | None:
        """Returns the revision that is shown as up to date under the key now, None if there is none."""
        with self._lock:
            shown = self.fresh and dict.__contains__(self, key)
            return self._versions.held.get(key) if shown else None

    def audited(self, *, stale: bool) -> None:
        """Counts a hit that was compared with the service, or one that turned out to be stale."""
        with self._lock:
            if stale:
                self._counts.stale_reads_total += 1
            else:
                self._counts.audited_reads += 1
