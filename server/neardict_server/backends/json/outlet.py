"""Where changes leave the threads: they reach the event loop in order, and are remembered for resuming."""

import asyncio
from collections import deque
from dataclasses import dataclass

from ...changes.recent import RecentChanges
from ...errors import BackendUnavailableError
from .. import base


@dataclass
class _Line:
    """A domain that is followed: since which revision all changes have come, and up to which."""

    open: asyncio.Future[None]
    since: int = 0
    latest: int = 0


class Outlet:
    """Publishes the changes of the domains that are followed. Used on the event loop, except for `put`.

    Invariant: of a line that is open, every change after `since` has been published up to `latest`, in order.
    """

    def __init__(self, publish: base.Publish) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._recent = RecentChanges()
        self._lines: dict[str, _Line] = {}
        self._arrived: deque[tuple[str, int, base.Change | None]] = deque()
        self._called = False

    def put(self, domain: str, revision: int, change: base.Change | None) -> None:
        """Takes a change, or the mark that opens the domain's line. From any thread, one call at a time."""
        self._arrived.append((domain, revision, change))
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._deliver)

    def lay(self, domain: str) -> None:
        """Begins a line, in place of an earlier one. It opens with the next mark."""
        earlier = self._lines.get(domain)
        # Who waits for the earlier one to open waits for this one.
        waiting = earlier is not None and not earlier.open.done()
        opened = earlier.open if earlier is not None and waiting else self._loop.create_future()
        self._lines[domain] = _Line(opened)

    def cut(self, domain: str) -> None:
        """Ends a line. Who waits for it to open gets BackendUnavailableError."""
        line = self._lines.pop(domain)
        if not line.open.done():
            line.open.set_exception(BackendUnavailableError("the domain's files cannot be followed now"))
            # There may be nobody who waits, which asyncio would complain about.
            line.open.exception()

    def domains(self) -> list[str]:
        """Returns the domains that have lines."""
        return list(self._lines)

    def has(self, domain: str) -> bool:
        """Returns whether the domain has a line."""
        return domain in self._lines

    def is_open(self, domain: str) -> bool:
        """Returns whether all changes of the domain are published."""
        line = self._lines.get(domain)
        return line is not None and line.open.done()

    async def position(self, domain: str, from_revision: int) -> base.Position:
        """Returns where a subscription that begins now begins, once the domain's line is open.

        There must be a line. Raises BackendUnavailableError if it is cut.
        """
        while not self.is_open(domain):
            # Shared with others, who are not to be cancelled with this caller.
            await asyncio.shield(self._lines[domain].open)
        line = self._lines[domain]
        if not line.since <= from_revision <= line.latest:
            return base.Position(line.latest, None)
        return base.Position(line.latest, self._recent.since(domain, from_revision, line.latest))

    def changed(self, domain: str) -> list[str] | None:
        """Returns the keys that have changed since the line was opened, None if not all are known."""
        line = self._lines[domain]
        changes = self._recent.since(domain, line.since, line.latest)
        return None if changes is None else list({change.key: None for change in changes})

    def _deliver(self) -> None:
        # Before looking, so that what arrives after it is not forgotten.
        self._called = False
        while self._arrived:
            domain, revision, change = self._arrived.popleft()
            line = self._lines.get(domain)
            if line is None:
                continue
            if change is None:
                if not line.open.done():
                    line.since = line.latest = revision
                    line.open.set_result(None)
            elif line.open.done():
                previous, line.latest = line.latest, revision
                self._recent.record(domain, previous, change)
                self._publish(domain, previous, change)
