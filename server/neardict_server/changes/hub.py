"""Brings the changes of one backend to those who watch its domains."""

import asyncio
import logging
from collections.abc import Callable

from neardict.v1 import storage_pb2 as pb

from ..backends import base
from ..errors import BackendUnavailableError, CapabilityMissingError
from ..messages import to_duration
from .leases import Leases
from .watcher import Watcher

logger = logging.getLogger(__name__)

# After so many changes that one has missed it is the turn of others.
_SENT_AT_ONCE = 1000


def _unnoticed(_: object) -> None:
    """Takes no notice."""


class Hub:
    """The subscriptions to one backend's domains. Used on the event loop alone.

    Invariant: after `subscribed(revision)` a watcher is sent every change of the domain with a greater
    revision, in order, until his subscription ends, and if it ends by our doing he is told.
    """

    def __init__(
        self,
        subscribed: Callable[[int], None] = _unnoticed,
        was_reset: Callable[[str], None] = _unnoticed,
    ) -> None:
        """`subscribed` is told by how many subscriptions there are more, `was_reset` why one was ended."""
        self._subscribed = subscribed
        self._was_reset = was_reset
        self._feed: base.Feed | None = None
        # None if the backend cannot keep what they promise.
        self.leases: Leases | None = None
        self._watchers: dict[str, set[Watcher]] = {}
        # Subscriptions that have not begun yet, and the changes that have come meanwhile.
        self._beginning: dict[tuple[str, Watcher], list[base.Change]] = {}

    def attach(self, feed: base.Feed) -> None:
        """Names the backend that calls `publish`; to be called once, before the first subscription."""
        self._feed = feed

    def publish(self, domain: str, previous: int, change: base.Change) -> None:
        """Takes notice of a change, as base.Publish says."""
        for watcher in tuple(self._watchers.get(domain, ())):
            early = self._beginning.get((domain, watcher))
            if early is not None:
                early.append(change)
            else:
                self._send(watcher, domain, change)

    async def subscribe(
        self, watcher: Watcher, domain: str, from_revision: int, *, lease: bool = False
    ) -> None:
        """Begins, or begins again, to send the changes of the domain. Raises what the backend raises."""
        if self._feed is None:
            raise CapabilityMissingError("CAPABILITY_WATCH")
        leases = await self._prepared() if lease else None
        if leases is not None:
            await leases.admit(watcher, domain)
        if self.leases is not None:
            # He may serve by the answer to an earlier request, which he has met since he sent this one. For
            # the same reason what waits stays in its place, before the `release` of what it tells.
            self.leases.end(watcher, domain, served=True)
        early: list[base.Change] = []
        # Listening comes first: what is published while the feed is asked must not be lost.
        self._beginning[domain, watcher] = early
        watchers = self._watchers.setdefault(domain, set())
        if watcher not in watchers:
            watchers.add(watcher)
            self._subscribed(1)
        watcher.hubs[domain] = self
        if leases is not None:
            leases.grant(watcher, domain)
        try:
            revision, missed = await self._feed.position(domain, from_revision)
        except BaseException:
            if self._beginning.get((domain, watcher)) is early:
                self.unsubscribe(watcher, domain, served=True)
            raise
        for sent, change in enumerate(missed or (), 1):
            if self._beginning.get((domain, watcher)) is not early:
                break
            self._send(watcher, domain, change)
            if not sent % _SENT_AT_ONCE:
                await asyncio.sleep(0)
        if self._beginning.get((domain, watcher)) is not early:
            return  # unsubscribed, or subscribed again, meanwhile, or too much was missed
        del self._beginning[domain, watcher]
        # Those that were published meanwhile come first too, so that `release` never overtakes a change.
        for change in [one for one in early if one.revision > revision]:
            self._send(watcher, domain, change)
            if watcher.hubs.get(domain) is not self:
                return  # too much was missed, and the reset has been put
            revision = max(revision, change.revision)
        subscribed = pb.Subscribed(
            domain=domain, revision=revision, complete=from_revision > 0 and missed is not None
        )
        if leases is not None:
            subscribed.lease_duration.CopyFrom(to_duration(leases.term.seconds))
        watcher.put(pb.WatchResponse(subscribed=subscribed))

    def unsubscribe(self, watcher: Watcher, domain: str, *, served: bool = False) -> None:
        """Stops sending changes of the domain to the watcher; those that wait are dropped.

        `served` says that he may serve what he holds for a while, since he has not asked for this.
        """
        if self.leases is not None:
            self.leases.end(watcher, domain, served=served)
        self._beginning.pop((domain, watcher), None)
        watcher.hubs.pop(domain, None)
        watchers = self._watchers.get(domain)
        if watchers is not None and watcher in watchers:
            watchers.remove(watcher)
            self._subscribed(-1)
            if not watchers:
                del self._watchers[domain]
        watcher.drop(domain)

    def watched(self) -> list[str]:
        """Returns the domains that somebody watches."""
        return list(self._watchers)

    def certain(self, domain: str) -> bool:
        """Returns whether every change of the domain until now has been published."""
        return self._feed is not None and self._feed.certain(domain)

    def lost(self, domain: str) -> None:
        """Tells the domain's watchers that its engine can no longer tell all changes."""
        watchers = tuple(self._watchers.get(domain, ()))
        if watchers:
            logger.info("changes of %r were lost: %d watchers begin anew", domain, len(watchers))
        for watcher in watchers:
            self.reset(watcher, domain, pb.Reset.REASON_LOG_LOST)

    def slow(self, watcher: Watcher, domain: str) -> None:
        """Tells the watcher that he has not taken what he was sent of the domain in time."""
        logger.info("a watcher of %r does not take its changes in time, and begins anew", domain)
        self.reset(watcher, domain, pb.Reset.REASON_SLOW_CONSUMER)

    def reset(self, watcher: Watcher, domain: str, reason: "pb.Reset.Reason") -> None:
        """Ends the subscription, and tells the watcher why."""
        self.unsubscribe(watcher, domain, served=True)
        self._was_reset(pb.Reset.Reason.Name(reason))
        message = pb.WatchResponse(reset=pb.Reset(domain=domain, reason=reason))
        if self.leases is None:
            watcher.put(message)
        else:
            # Or else he would meet the `release` of a change that is dropped now.
            watcher.overtake(domain, message)

    async def _prepared(self) -> Leases:
        if self.leases is None:
            raise CapabilityMissingError("CAPABILITY_LEASES")
        try:
            await self.leases.prepare()
        except OSError as error:
            raise BackendUnavailableError(
                "no lease can be given, since that cannot be noted in the server's data_dir: make it writable"
            ) from error
        return self.leases

    @staticmethod
    def _send(watcher: Watcher, domain: str, change: base.Change) -> None:
        if not watcher.add(domain, change):
            heaviest = watcher.heaviest()
            watcher.hubs[heaviest].slow(watcher, heaviest)
