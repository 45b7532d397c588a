"""Leases: who holds one may serve the domain from memory, and writes wait until nobody serves the key.

A write of a leased domain goes so: (1) each holder is told to `revoke` the key; (2) when each has confirmed,
or its lease is over, the write takes effect, and its change is published; (3) the holders are told to
`release` the key, and the writer that it is done. So once anybody has seen the new value, nobody is shown
the old one. The writes of a batch do all this together. See Gray and Cheriton, "Leases: an efficient
fault-tolerant mechanism for distributed file cache consistency" (SOSP 1989).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import stat
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Self

from neardict.v1 import storage_pb2 as pb

from ..errors import TooManyLeasesError
from .watcher import MAX_WAITING_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .watcher import Watcher

logger = logging.getLogger(__name__)

# What is one second by a client's clock is at most so many by ours.
DRIFT = 1.02
# Where it cannot be read for how long an earlier process gave leases: the longest that can be configured.
LONGEST_SECONDS = 60.0
# What a file that we wrote has at most.
_LONGEST_TEXT = 64
# So many domains of a backend one connection may have leases of.
MOST_DOMAINS = 1000
# The first pause after a lease that lapsed is as long as a lease, each one that follows twice as long, up to
# this, and after so long without one it begins anew.
LONGEST_PAUSE_SECONDS = 300.0
FORGOTTEN_SECONDS = 600.0
_MOST_KNOWN = 10_000

# Numbers tell the revokes of a stream apart, whatever their backends.
_numbers = itertools.count(1)


class Term:
    """How long leases last: `seconds` for clients, from when they sent a ping, and a little longer here."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock

    def end(self) -> float:
        """Returns when a lease is over that is renewed now, by the clock."""
        return self.clock() + self.seconds * DRIFT


class Leases:
    """The leases of the domains of one backend. Used on the event loop alone.

    Invariant: while a write runs, each watcher that can serve one of its keys from before the write has been
    told to revoke it, and has confirmed, or his lease is over.
    """

    def __init__(
        self,
        term: Term,
        kept: Path,
        reset: Callable[[Watcher, str], None],
        *,
        most_domains: int = MOST_DOMAINS,
        lapsed: Callable[[], None] = lambda: None,
    ) -> None:
        """`kept` is a file that shows a later process that leases may be out; `reset` ends a subscription.

        A connection has leases of `most_domains`. `lapsed` is called for each holder who let a write wait for
        the end of his lease. Raises OSError if the file cannot be read.
        """
        self.term = term
        self._kept = kept
        self._reset = reset
        self._most_domains = most_domains
        self._on_lapse = lapsed
        self._pauses = Pauses(term)
        self._prepared: asyncio.Lock | None = asyncio.Lock()
        self._holders: dict[str, dict[Watcher, None]] = {}
        self._held: dict[Watcher, dict[str, None]] = {}
        self._counts: Counter[str] = Counter()  # by connection
        # When the leases are over of those who do not listen any more, and who left last, at the end, and has
        # not been blamed for that.
        self._lapsing: dict[str, tuple[float, Watcher | None]] = {}
        self._writes: dict[str, dict[Write, None]] = {}
        # The process before this one may have given leases, and cannot tell to whom.
        self._quarantined_until = float("-inf")
        with contextlib.suppress(FileNotFoundError):
            seconds = _seconds(_read(kept)) * DRIFT
            self._quarantined_until = term.clock() + seconds
            logger.info(
                "a server before this one gave leases of domains of the backend %s: writes to it wait for up "
                "to %.1f seconds",
                kept.name,
                seconds,
            )

    async def prepare(self) -> None:
        """Makes it possible to give leases. Raises OSError if that cannot be noted for the next process."""
        lock = self._prepared
        if lock is not None:
            async with lock:
                if self._prepared is not None:
                    await asyncio.to_thread(self._keep)
                    self._prepared = None

    async def admit(self, watcher: Watcher, domain: str) -> None:
        """Returns when the watcher may be given a lease of the domain. Raises TooManyLeasesError.

        One who made a write wait for the end of his lease has to have confirmed what he missed, and waits,
        longer each time: and so does whoever else comes from there, since he may have come back as another.
        """
        if domain not in self._held.get(watcher, ()) and (
            self._counts[watcher.connection] >= self._most_domains
        ):
            raise TooManyLeasesError(self._most_domains)
        await watcher.caught_up()
        # Others may have made it longer meanwhile, but he has waited his time.
        await asyncio.sleep(self._pauses.left(watcher.connection, domain))

    def grant(self, watcher: Watcher, domain: str) -> None:
        """Gives the watcher a lease, which he renews with each ping."""
        watcher.lease_until = max(watcher.lease_until, self.term.end())
        self._holders.setdefault(domain, {})[watcher] = None
        self._held.setdefault(watcher, {})[domain] = None
        self._counts[watcher.connection] += 1
        # He holds nothing yet, so they need not wait for him, but what he reads may be from before them.
        for write in self._writes.get(domain, ()):
            write.tell(watcher)

    def end(self, watcher: Watcher, domain: str, *, served: bool) -> None:
        """Ends the watcher's lease, if he has one; `served` says that he may not know that yet."""
        holders = self._holders.get(domain, {})
        if watcher not in holders:
            return
        del holders[watcher]
        if not holders:
            del self._holders[domain]
        held = self._held[watcher]
        del held[domain]
        if not held:
            del self._held[watcher]
        self._counts[watcher.connection] -= 1
        if not self._counts[watcher.connection]:
            del self._counts[watcher.connection]
        if served:
            until = watcher.lease_until
            if (earlier := self._lapsing.pop(domain, None)) is not None and earlier[0] > until:
                self._lapsing[domain] = earlier
            else:
                self._lapsing[domain] = until, watcher
            self._forget_lapsed()
        else:
            for write in self._writes.get(domain, ()):
                write.confirmed(watcher)

    def lapse(self, watcher: Watcher, domain: str, numbers: Iterable[int]) -> None:
        """A write of the domain has waited for the end of the watcher's lease: he loses all that he has."""
        watcher.missed(numbers)
        if watcher not in self._held:
            return  # he has lost them
        held = list(self._held[watcher])
        self._blame(watcher, domain, held)
        for one in held:
            self._reset(watcher, one)
            # Others wait for the end of his lease once more, and he is not blamed for that.
            if one in self._lapsing:
                self._lapsing[one] = self._lapsing[one][0], None

    def _blame(self, watcher: Watcher, domain: str, domains: Iterable[str]) -> None:
        self._on_lapse()
        for one in domains:
            self._pauses.longer(watcher.connection, one)
        logger.warning(
            "%s has not confirmed in time that it does not show an entry of %r any more, or has gone without "
            "a word: a write waited for the end of its lease. It gets the next one in %.0f seconds",
            watcher.connection or "a client",
            domain,
            self._pauses.left(watcher.connection, domain),
        )

    def writing(self, domain: str, keys: Iterable[str]) -> Write:
        """Returns the context of writes of the keys, which are looked at if anybody holds a lease."""
        return Write(self, domain, keys)

    def begin(self, write: Write) -> list[Watcher]:
        """Registers the write; returns who holds a lease of its domain."""
        self._writes.setdefault(write.domain, {})[write] = None
        for watcher in tuple(self._holders.get(write.domain, ())):
            if watcher.waiting > MAX_WAITING_MESSAGES:
                self._reset(watcher, write.domain)
        return list(self._holders.get(write.domain, ()))

    def finish(self, write: Write) -> None:
        """Forgets the write."""
        writes = self._writes[write.domain]
        del writes[write]
        if not writes:
            del self._writes[write.domain]

    def lapsed_at(self, domain: str) -> float:
        """Returns when the leases are over of those who cannot be asked."""
        end, who = self._lapsing.get(domain, (None, None))
        if end is None:
            return self._quarantined_until
        if end <= self.term.clock():
            del self._lapsing[domain]
        elif who is not None:
            self._lapsing[domain] = end, None
            self._blame(who, domain, (domain,))
        return max(end, self._quarantined_until)

    async def begun(self) -> None:
        """Returns when the leases of earlier processes are over."""
        await asyncio.sleep(self._quarantined_until - self.term.clock())

    def _forget_lapsed(self) -> None:
        """Keeps no domain for long that nobody writes to, which `lapsed_at` would forget."""
        now = self.term.clock()
        for domain, _ in list(itertools.takewhile(lambda one: one[1][0] <= now, self._lapsing.items())):
            del self._lapsing[domain]

    def _keep(self) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._kept.with_suffix(".new")
        # A process before this one may have given longer ones, which are not over yet.
        earlier = (self._quarantined_until - self.term.clock()) / DRIFT
        with temporary.open("w") as file:
            file.write(f"{max(self.term.seconds, earlier)}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._kept)
        folder = os.open(self._kept.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(kept: Path) -> str:
    """Returns what the file says. Raises OSError, for a link too, which others may have put there."""
    descriptor = os.open(kept, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{kept} is no regular file: remove it")
        return os.read(descriptor, _LONGEST_TEXT).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _seconds(text: str) -> float:
    """Returns for how long leases were given: the longest that can be, unless the text says so by itself."""
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,20})?\n?", text) is None:
        return LONGEST_SECONDS
    return min(float(text), LONGEST_SECONDS)


class Pauses:
    """For how long nobody at an address is given a lease of a domain: longer each time that one lapsed."""

    def __init__(self, term: Term) -> None:
        self._term = term
        # How often one has lapsed, and until when none is given; who lapsed last is at the end.
        self._known: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def longer(self, connection: str, domain: str) -> None:
        """Takes notice that a lease has lapsed."""
        place, now = (_address(connection), domain), self._term.clock()
        times, until = self._known.pop(place, (0, now))
        if until + FORGOTTEN_SECONDS < now:
            times = 0
        seconds = min(self._term.seconds * 2 ** min(times, 10), LONGEST_PAUSE_SECONDS)
        self._known[place] = times + 1, now + seconds
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def left(self, connection: str, domain: str) -> float:
        """Returns how many seconds of the pause are left."""
        _, until = self._known.get((_address(connection), domain), (0, 0.0))
        return max(0.0, until - self._term.clock())


def _address(connection: str) -> str:
    """Returns the address without the port, which is another one each time that somebody comes back."""
    return connection.rpartition(":")[0]


class Write:
    """Writes of some keys, from before they run until they have been published. A context."""

    def __init__(self, leases: Leases, domain: str, keys: Iterable[str]) -> None:
        self.domain = domain
        self._keys = keys
        self._leases = leases
        # By which the keys are revoked, as soon as anybody must be told.
        self._numbers: dict[int, str] = {}
        self._told: dict[Watcher, None] = {}
        self._unconfirmed: dict[Watcher, _Unconfirmed] = {}
        # Of these, whose lease is over first is at the end.
        self._order: list[Watcher] = []
        # When the leases are over of those who had left by then. Who comes later is told before he holds
        # anything, so that nobody waits for him, even if he leaves again.
        self._lapsed = float("-inf")
        self._progress: asyncio.Event | None = None

    def __enter__(self) -> Self:
        for watcher in self._leases.begin(self):
            self.tell(watcher)
            self._unconfirmed[watcher] = _Unconfirmed(watcher.lease_until, set(self._numbers))
        self._order = sorted(self._unconfirmed, key=lambda watcher: -watcher.lease_until)
        self._lapsed = self._leases.lapsed_at(self.domain)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leases.finish(self)
        for watcher in self._told:
            for number in self._numbers:
                del watcher.revokes[number]
                watcher.put(pb.WatchResponse(release=pb.Release(number=number)))

    def tell(self, watcher: Watcher) -> None:
        """Tells the watcher to serve the keys from memory no more."""
        if not self._numbers:
            self._numbers = {next(_numbers): key for key in dict.fromkeys(self._keys)}
        self._told[watcher] = None
        for number, key in self._numbers.items():
            watcher.revokes[number] = self
            revoke = pb.Revoke(domain=self.domain, key=key, number=number)
            watcher.put(pb.WatchResponse(revoke=revoke))

    def confirmed(self, watcher: Watcher, number: int | None = None) -> None:
        """The watcher does not serve the key of the number any more, or none of the keys."""
        asked = self._unconfirmed.get(watcher)
        if asked is None:
            return
        if number is not None:
            asked.numbers.discard(number)
            if asked.numbers:
                return
        del self._unconfirmed[watcher]
        # Not for each, since the write looks at all others then.
        if self._progress is not None and not self._unconfirmed:
            self._progress.set()

    async def cleared(self) -> None:
        """Returns when the writes may run. Who has not confirmed by the end of his lease loses it."""
        while (seconds := self._held_up()) > 0:
            self._progress = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._progress.wait()

    def _held_up(self) -> float:
        """Returns for how many seconds there is reason to wait, if nobody confirms."""
        now = self._leases.term.clock()
        while self._order:
            watcher = self._order[-1]
            asked = self._unconfirmed.get(watcher)
            if asked is not None and asked.until > now:
                return asked.until - now
            self._order.pop()
            if asked is not None:
                del self._unconfirmed[watcher]
                self._leases.lapse(watcher, self.domain, asked.numbers)
        return self._lapsed - now


class _Unconfirmed(NamedTuple):
    """Who has not confirmed `numbers`, and when his lease is over.

    That he renews it meanwhile does not count, since the answer to his ping comes to him behind the revokes.
    """

    until: float
    numbers: set[int]
