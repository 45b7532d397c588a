"""Compares what dicts show with what is stored, to find what should be impossible."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from . import _timeouts
from ._observed import ObservedDict
from ._session import TRUST_SECONDS
from ._threads import join, start
from .errors import InvalidArgumentError, NeardictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._changes import Changes
    from .store import Store
    from .v1 import storage_pb2 as pb

logger = logging.getLogger(__name__)

# For so long a dict may show what has been overwritten: the bound that is promised, and a moment for
# threads that get their turn late.
BOUND_SECONDS = TRUST_SECONDS + 1.0


class Probe(NamedTuple):
    """A key to look up, of which the dict shows this revision; `since` when another was stored."""

    cache: ObservedDict
    key: str
    revision: int
    since: float | None = None


class Auditor:
    """Chooses keys and judges answers.

    A difference alone is no mistake: the change may be under way. It is one if the dict, fresh by its own
    account, still shows that revision when the bound has passed.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        every: float,
        sample: int,
        clock: Callable[[], float] = time.monotonic,
        choice: random.Random | None = None,
    ) -> None:
        """Audits `sample` keys of all dicts together `every` so many seconds."""
        if not _timeouts.is_number(every) or not every > 0 or not isinstance(sample, int) or sample < 1:
            raise InvalidArgumentError("audit takes a number of seconds above 0, and a sample of at least 1")
        if changes.session is None:
            raise InvalidArgumentError("with connect(watch=False) nothing is promised that could be audited")
        self._changes = changes
        self._every = _timeouts.check(every)
        self._sample = sample
        self._clock = clock
        self._choice = choice or random.Random()  # noqa: S311  # no secret
        self._due = clock() + self._every
        self._suspects: list[Probe] = []

    def pause(self) -> float:
        """Returns in how many seconds `probes` has something to ask for."""
        due = min([self._due, *(_end(probe) for probe in self._suspects[:1])])
        return max(0.0, due - self._clock())

    def probes(self) -> list[Probe]:
        """Returns what to look up now; each answer goes to `answered`."""
        now = self._clock()
        due = [probe for probe in self._suspects if _end(probe) <= now]
        self._suspects = self._suspects[len(due) :]  # they are in the order of time
        if now >= self._due:
            self._due = now + self._every
            due += self._chosen()
        return due

    def answered(self, probe: Probe, response: pb.GetValueResponse) -> None:
        """Takes notice of what is stored."""
        stored = response.entry.revision if response.found else 0
        if probe.since is None:
            probe.cache.audited(stale=False)
        if stored == probe.revision or probe.cache.shown_revision(probe.key) != probe.revision:
            return
        if probe.since is None:
            self._suspects.append(probe._replace(since=self._clock()))
            return
        probe.cache.audited(stale=True)
        logger.warning(
            "a stale read: the key %r of the domain %r shows revision %d, but revision %d is stored, and "
            "another than the shown one was %.1f seconds ago: please report it",
            probe.key,
            probe.cache.domain,
            probe.revision,
            stored,
            self._clock() - probe.since,
        )

    def _chosen(self) -> list[Probe]:
        caches = [listener for listener in self._changes.listeners() if isinstance(listener, ObservedDict)]
        if not caches:
            return []
        picks = Counter(self._choice.randrange(len(caches)) for _ in range(self._sample))
        return [
            Probe(caches[number], key, revision)
            for number, count in picks.items()
            for key, revision in caches[number].shown_sample(count, self._choice)
        ]


def _end(probe: Probe) -> float:
    return (probe.since or 0.0) + BOUND_SECONDS


class AuditThread:
    """Audits the dicts of a synchronous store until it is closed."""

    def __init__(self, store: Store, auditor: Auditor) -> None:
        self._store = store
        self._auditor = auditor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neardict audit", daemon=True)

    def start(self) -> None:
        start(self._thread)

    def stop(self) -> None:
        """Begins no look-up any more; `join` waits for the one under way."""
        self._stop.set()

    def join(self) -> None:
        """Waits until the thread has ended."""
        join(self._thread)

    def _run(self) -> None:
        while not self._stop.wait(self._auditor.pause()):
            for probe in self._auditor.probes():
                if self._stop.is_set():
                    return
                try:
                    response = self._store.lookup(probe.cache.domain, probe.key)
                except NeardictError as error:
                    # What cannot be asked proves nothing.
                    logger.debug("a key could not be audited: %s", type(error).__name__)
                else:
                    self._auditor.answered(probe, response)
