"""Brings the changes of one backend to those who watch its domains."""

import logging

from neardict.v1 import storage_pb2 as pb

from ..backends import base
from ..errors import CapabilityMissingError
from .watcher import Watcher

logger = logging.getLogger(__name__)


class Hub:
    """The subscriptions to one backend's domains. Used on the event loop alone.

    Invariant: after `subscribed(revision)` a watcher is sent every change of the domain with a greater
    revision, in order, until his subscription ends, and if it ends by our doing he is told.
    """

    def __init__(self) -> None:
        self._feed: base.Feed | None = None
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

    async def subscribe(self, watcher: Watcher, domain: str, from_revision: int) -> None:
        """Begins, or begins again, to send the changes of the domain. Raises what the backend raises."""
        if self._feed is None:
            raise CapabilityMissingError("CAPABILITY_WATCH")
        self.unsubscribe(watcher, domain)
        early: list[base.Change] = []
        # Listening comes first: what is published while the feed is asked must not be lost.
        self._beginning[domain, watcher] = early
        self._watchers.setdefault(domain, set()).add(watcher)
        watcher.hubs[domain] = self
        try:
            revision, missed = await self._feed.position(domain, from_revision)
        except BaseException:
            if self._beginning.get((domain, watcher)) is early:
                self.unsubscribe(watcher, domain)
            raise
        if self._beginning.get((domain, watcher)) is not early:
            return  # unsubscribed, or subscribed again, meanwhile
        del self._beginning[domain, watcher]
        for change in missed or ():
            self._send(watcher, domain, change)
        if watcher.hubs.get(domain) is not self:
            return  # too much was missed, and the reset has been put
        complete = from_revision > 0 and missed is not None
        watcher.put(
            pb.WatchResponse(subscribed=pb.Subscribed(domain=domain, revision=revision, complete=complete))
        )
        for change in early:
            if change.revision > revision:
                self._send(watcher, domain, change)

    def unsubscribe(self, watcher: Watcher, domain: str) -> None:
        """Stops sending changes of the domain to the watcher; those that wait are dropped."""
        self._beginning.pop((domain, watcher), None)
        watcher.hubs.pop(domain, None)
        watchers = self._watchers.get(domain)
        if watchers is not None:
            watchers.discard(watcher)
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

    def reset(self, watcher: Watcher, domain: str, reason: "pb.Reset.Reason") -> None:
        """Ends the subscription, and tells the watcher why."""
        self.unsubscribe(watcher, domain)
        watcher.put(pb.WatchResponse(reset=pb.Reset(domain=domain, reason=reason)))

    @staticmethod
    def _send(watcher: Watcher, domain: str, change: base.Change) -> None:
        if not watcher.add(domain, change):
            heaviest = watcher.heaviest()
            logger.info("a watcher of %r does not take its changes in time, and begins anew", heaviest)
            watcher.hubs[heaviest].reset(watcher, heaviest, pb.Reset.REASON_SLOW_CONSUMER)
