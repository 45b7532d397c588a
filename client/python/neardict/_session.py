"""What a client knows of its Watch stream: which domains, up to where, and whether it may trust it. No I/O.

A driver (a thread, or a task) opens streams, sends what `requests` are due and hands over what arrives.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from . import _replies, _requests
from ._backoff import Backoff, jitter
from ._changes import NOT_SENT, Change
from ._news import News
from .errors import ServiceError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._changes import Changes, Listener

# How often the driver sends a ping, and how long after sending one its answer vouches for the copy.
PING_SECONDS = 1.0
TRUST_SECONDS = 3 * PING_SECONDS
NEVER = float("-inf")
EVER = float("inf")
# Before a subscription that was rejected is tried again.
BACKOFF = Backoff(0.5, 5.0)
# A lease is not to be had, and the domain is followed without one, for those who need none.
_NO_LEASE = {"CAPABILITY_MISSING", "TOO_MANY_LEASES"}
# It is not, after these: only another service, or another configuration of it, would answer otherwise, and
# that makes itself known by a new stream.
_LASTING = {
    code.value[0]
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    )
}

_SET = pb.Change.KIND_SET


class Lease:
    """Until when what is held may be served from memory, by the clock of the session."""

    __slots__ = ("until",)

    def __init__(self, until: float = NEVER) -> None:
        self.until = until


@dataclass
class _Domain:
    """`revision` is up to where every change has been seen, 0 if nothing is held; `live` since subscribed.

    `settled` is whether the service has answered the first subscription, in whatever way; `rejections` how
    often it has rejected it since. `asked` is whether the request that is not answered yet asks
    for a lease, None if there is none: an answer does not say to which request. `lease` is there if one is
    wanted, and `lease_seconds` is how long it lasts, 0 if the service has given none; `refused` is why not.
    """

    revision: int = 0
    live: bool = False
    certain: bool = True
    fresh: bool = False
    settled: bool = False
    lease: Lease | None = None
    lease_seconds: float = 0
    refused: str = ""
    rejections: int = 0
    asked: bool | None = None


class Session:
    """The subscriptions of one store. Thread-safe; listeners are called under no lock of this class but one
    at a time, in the order of what arrived.

    Invariant: a listener is fresh only while (a) the stream has said `subscribed` for its domain and
    neither `reset` nor ended since, and (b) less than TRUST_SECONDS have passed since a ping was sent that
    has been answered, and (c) the service said with that answer that it is certain of the domain.
    """

    def __init__(
        self, changes: Changes, clock: Callable[[], float], *, jitter: Callable[[], float] = jitter
    ) -> None:
        """`clock` returns seconds, and never goes back; `jitter` the share of a pause."""
        self._changes = changes
        self._clock = clock
        self._jitter = jitter
        # Guards all below, and makes events of the stream and of the clock come one after the other.
        self._lock = threading.RLock()
        self.closed = False
        self._news = News()
        # Is told, under the lock, whether the service is there: of each answer to a ping, and of each end of
        # a stream.
        self.notice: Callable[[bool], None] = lambda connected: None
        # How many streams have ended.
        self.failures = 0
        self._domains: dict[str, _Domain] = {}
        # Those whose subscription is to be tried again, and when.
        self._retries: dict[str, float] = {}
        self._send: Callable[[pb.WatchRequest], None] | None = None
        self._pings: dict[int, float] = {}
        # The keys that are being written in domains with a lease, by the number of the revoke.
        self._revoked: dict[int, tuple[str, str]] = {}
        self._ping = 0
        self._pinged = self._opened = NEVER
        # When the last ping that was answered on this stream had been sent.
        self._answered = NEVER
        # That, and for how long it proves that what is held is up to date: for dicts to look at.
        self.trust = Lease()
        # Domains of which a dict has found by itself that this is over. Without the lock.
        self.overdue: set[str] = set()

    # What the store asks for.

    def join(self, name: str, listener: Listener) -> None:
        """Has the domain watched for the listener, who has to be among those of `changes` already."""
        with self._lock:
            domain = self._domains.get(name)
            new = domain is None
            if domain is None:
                domain = self._domains[name] = _Domain()
            if listener.leased and domain.lease is None:
                domain.lease = Lease()
                domain.settled, domain.refused = False, ""
                self._end(name, domain)
                new = domain.asked is None
            # What it will read may be from before these writes, and the service asks for each but once.
            for number, (written, key) in self._revoked.items():
                if written == name:
                    listener.revoke(key, number)
            if new:
                self._subscribe(name)
            elif domain.fresh:
                listener.freshen()

    def lease(self, name: str) -> Lease:
        """Returns the lease of a domain that a leased listener has joined; it may be over."""
        return self._domains[name].lease or Lease()

    def refused(self, name: str) -> str:
        """Returns why the service gives no lease of the domain, "" if it is not known to refuse."""
        domain = self._domains.get(name)
        return domain.refused if domain is not None else ""

    def domains(self) -> list[str]:
        """Returns the names of those that are followed."""
        return list(self._domains)

    def settled(self, name: str) -> bool:
        """Returns whether the service has answered the first subscription to the domain, and a ping.

        Then the domain is fresh, unless the service cannot vouch for it.
        """
        domain = self._domains.get(name)
        return domain is None or (domain.settled and self._answered > NEVER) or self.closed

    def wait(self, name: str, seconds: float) -> None:
        """Returns when the service has answered the subscription, or the stream fails, or time is over."""
        failures = self.failures
        self._news.wait_for(lambda: self.failures != failures or self.settled(name), seconds)

    # What the driver tells.

    def opened(self, send: Callable[[pb.WatchRequest], None]) -> None:
        """A stream is there; `send` queues a request for it, without waiting."""
        with self._lock:
            self._send = send
            self._opened = self._clock()
            self._retries.clear()
            for domain in self._domains:
                self._subscribe(domain)
            self.ping()

    def leave(self) -> bool:
        """The stream is about to be ended: gives the leases back; returns whether there are any."""
        with self._lock:
            leased = [name for name, domain in self._domains.items() if domain.lease_seconds]
            for name in leased:
                if not self.closed:
                    self._end(name, self._domains[name])
                self._unsubscribe(name)
            return bool(leased)

    def close(self) -> None:
        """The store is closed: what its dicts hold stays as it is, but nothing is served under a lease."""
        with self._lock:
            for domain in self._domains.values():
                if domain.lease is not None:
                    domain.lease.until = NEVER
            self.trust.until = EVER
            self.closed = True
            # Nobody will tell of their end. After the leases, so that nothing is shown that was revoked.
            for number in list(self._revoked):
                self._release(number)
            self._news.notify_all()

    def lost(self) -> None:
        """The stream has ended, for whatever reason: nothing is fresh until another has caught up."""
        with self._lock:
            if self.closed:
                return
            self._send = None
            self._pings.clear()
            self._answered = self.trust.until = NEVER
            self.notice(False)
            self._retries.clear()
            self.failures += 1
            self._news.notify_all()
            for name, domain in self._domains.items():
                domain.asked = None
                self._end(name, domain)
            # After that, so that nothing is shown that was revoked.
            for number in list(self._revoked):
                self._release(number)

    def ping(self) -> None:
        """Sends a ping, if a stream is open."""
        with self._lock:
            if self._send is not None:
                self._ping += 1
                self._pinged = self._clock()
                self._pings[self._ping] = self._pinged
                self._send(pb.WatchRequest(ping=pb.Ping(number=self._ping)))

    def was_answered(self) -> bool:
        """Returns whether a ping has been answered on the stream that is open now."""
        return self._answered > NEVER

    def tick(self) -> float | None:
        """Does what is due by the clock; returns in how many seconds to call it again.

        Returns None if nothing vouches for the copy any more. It is stale then, and the driver gives the
        stream up: it may be half open, and no error would ever come.
        """
        with self._lock:
            if self._send is None:
                return PING_SECONDS
            now = self._clock()
            end = max(self._answered, self._opened) + TRUST_SECONDS
            if now > end:
                self.lost()
                return None
            if now >= self._pinged + PING_SECONDS:
                self.ping()
                self._leave()
            for name in [name for name, due in self._retries.items() if due <= now]:
                del self._retries[name]
                self._subscribe(name)
            # A little later than the end, so that it is over then.
            return max(0.0, min(self._pinged + PING_SECONDS - now, end - now + 0.001))

    def received(self, message: pb.WatchResponse) -> None:
        """A message has arrived on the stream."""
        with self._lock:
            if self.closed:
                return
            which = message.WhichOneof("response")
            if which == "changes":
                self._changed(message.changes)
            elif which == "heartbeat":
                self._vouched(message.heartbeat)
            elif which == "subscribed":
                self._subscribed(message.subscribed)
            elif which == "reset":
                self._reset(message.reset.domain)
                self._subscribe(message.reset.domain)
            elif which == "rejected":
                self._rejected(message.rejected)
            elif which == "revoke":
                self._revoke(message.revoke)
            elif which == "release":
                self._release(message.release.number)
            else:
                # Nothing may be lost without a word, so that what is not known is not passed over.
                raise _refused("told something that this version does not know: upgrade neardict")

    def _changed(self, message: pb.Changes) -> None:
        domain = self._domains.get(message.domain)
        if domain is None:
            return
        last = 0
        for told in message.changes:
            change = _change(told)
            self._changes.publish(message.domain, change)
            last = change.revision
        if message.revision != last:
            # From there a stream goes on: further, and changes would be lost without a word.
            raise _refused("told changes up to another revision than that of the last")
        domain.revision = max(domain.revision, message.revision) if domain.revision else 0

    def _subscribed(self, message: pb.Subscribed) -> None:
        domain = self._domains.get(message.domain)
        if domain is None:
            return
        if self._asks_for_lease_now(message.domain, domain):
            return
        if problem := _replies.subscribed_problem(message):
            raise _refused(problem)
        # Nothing can go on from nothing, whatever the service says.
        if not message.complete or not domain.revision:
            self._changes.reset(message.domain)
        domain.revision = max(message.revision, 1)
        domain.live = True
        domain.settled = domain.certain
        if not domain.certain:
            # Perhaps only since it had not begun when the last ping was answered.
            self.ping()
        self._retries.pop(message.domain, None)
        if domain.lease is not None and message.HasField("lease_duration"):
            domain.refused = ""
            domain.lease_seconds = min(TRUST_SECONDS, message.lease_duration.ToMicroseconds() / 1e6)
            # The service has seen that ping before the subscription, and so counts from later on.
            domain.lease.until = self._answered + domain.lease_seconds
        elif domain.lease is not None:
            domain.refused = "the service is too old to give leases"
        domain.rejections = 0
        self._judge(message.domain, domain)
        self._news.notify_all()

    def _asks_for_lease_now(self, name: str, domain: _Domain) -> bool:
        """Takes notice of an answer; returns whether it is to a request from before a lease was wanted."""
        asked, domain.asked = domain.asked, None
        if asked is not False or domain.lease is None:
            return False
        self._subscribe(name)
        return True

    def _reset(self, name: str) -> None:
        domain = self._domains.get(name)
        if domain is not None:
            domain.revision = 0
            domain.asked = None
            domain.settled = True
            self._end(name, domain)
            self._changes.reset(name)
            self._news.notify_all()

    def _end(self, name: str, domain: _Domain) -> None:
        """The domain is not subscribed any more."""
        if domain.lease is not None:
            domain.lease.until = NEVER
            domain.lease_seconds = 0
        domain.live = False
        self._judge(name, domain)

    def _rejected(self, message: pb.Rejected) -> None:
        domain = self._domains.get(message.domain)
        if domain is None:
            return
        if self._asks_for_lease_now(message.domain, domain):
            return
        if domain.lease is not None and message.reason in _NO_LEASE:
            # Those who need none are served all the same.
            domain.lease, domain.refused = None, message.message
            self._subscribe(message.domain)
            return
        if message.code in _LASTING:
            self._reset(message.domain)
            return
        # What is held waits, as for a new stream, until the service can go on from there.
        domain.settled = True
        domain.rejections += 1
        self._retries[message.domain] = self._clock() + BACKOFF.wait(domain.rejections, self._jitter)
        self._end(message.domain, domain)
        self._news.notify_all()

    def _revoke(self, message: pb.Revoke) -> None:
        if self._revoked.get(message.number, (message.domain, message.key)) != (message.domain, message.key):
            # The first would never be released.
            raise _refused("revoked two keys under one number")
        self._revoked[message.number] = message.domain, message.key
        self._changes.revoke(message.domain, message.key, message.number)
        if self._send is not None:
            self._send(pb.WatchRequest(revoked=pb.Revoked(number=message.number)))

    def _release(self, number: int) -> None:
        if number in self._revoked:
            domain, key = self._revoked.pop(number)
            self._changes.release(domain, key, number)

    def _vouched(self, message: pb.Heartbeat) -> None:
        uncertain = set(message.uncertain_domains)
        sent = self._pings.get(message.ping)
        if sent is None:
            # Of the service's own accord, or an answer that came before: it proves nothing, but takes back.
            for name in uncertain & self._domains.keys():
                self._doubt(name, self._domains[name])
            return
        for number in [number for number in self._pings if number <= message.ping]:
            del self._pings[number]
        self._answered = sent
        self.trust.until = sent + TRUST_SECONDS
        self.notice(True)
        for name, domain in self._domains.items():
            domain.certain = name not in uncertain
            domain.settled = domain.settled or domain.live
            if domain.lease is not None:
                renewed = domain.lease_seconds and domain.certain
                domain.lease.until = sent + domain.lease_seconds if renewed else NEVER
            self._judge(name, domain)
            if domain.lease is not None and domain.fresh:
                # A dict whose lease had run out has gone stale by itself.
                self._changes.freshen(name)
        for name in list(self.overdue):
            self.overdue.discard(name)
            if (one := self._domains.get(name)) is not None and one.fresh:
                self._changes.freshen(name)
        self._news.notify_all()

    def _doubt(self, name: str, domain: _Domain) -> None:
        """The service is not certain of the domain, until it says so with the answer to a ping."""
        domain.certain = False
        if domain.lease is not None:
            domain.lease.until = NEVER
        self._judge(name, domain)

    def _subscribe(self, name: str) -> None:
        domain = self._domains.get(name)
        if domain is not None and self._send is not None:
            domain.asked = domain.lease is not None
            subscribe = pb.Subscribe(domain=name, from_revision=domain.revision, lease=domain.asked)
            self._send(pb.WatchRequest(subscribe=subscribe))

    def _leave(self) -> None:
        """Ends the subscriptions to domains that nobody listens to any more, and leases that nobody needs.

        Not those that are not answered yet: the answer would be taken for that to a later request.
        """
        answered = [(name, domain) for name, domain in self._domains.items() if domain.asked is None]
        for name, domain in answered:
            if not self._changes.heard(name):
                del self._domains[name]
                self._retries.pop(name, None)
                self._unsubscribe(name)
            elif domain.lease is not None and not self._changes.leased(name):
                self._end(name, domain)
                domain.lease = None
                self._unsubscribe(name)
                self._subscribe(name)

    def _unsubscribe(self, name: str) -> None:
        if self._send is not None:
            self._send(pb.WatchRequest(unsubscribe=pb.Unsubscribe(domain=name)))

    def _judge(self, name: str, domain: _Domain) -> None:
        """Tells the listeners of the domain if it has become fresh, or stale."""
        fresh = domain.live and domain.certain and self._clock() <= self._answered + TRUST_SECONDS
        if fresh != domain.fresh:
            domain.fresh = fresh
            if fresh:
                self._changes.freshen(name)
            else:
                self._changes.stale(name)


def _change(message: pb.Change) -> Change:
    value, revision = message.value, message.revision
    # What is usual, at once: this is done for every change.
    if (
        0 < revision < _replies.REVISIONS_END
        and message.kind == _SET
        and value.HasField("json")
        and not message.HasField("expire_time")
        and (key := message.key)
    ):
        return Change(key, revision, value, None, 0, True)
    if problem := _replies.change_problem(message):
        raise _refused(problem)
    if message.kind == pb.Change.KIND_DELETE:
        return Change(message.key, revision, None, streamed=True)
    expires = _requests.expire_time(message)
    return Change(
        message.key,
        revision,
        value if value.HasField("json") or value.HasField("raw") else NOT_SENT,
        expires.timestamp() if expires else None,
        streamed=True,
    )


def _refused(problem: str) -> ServiceError:
    """Returns what ends a stream that cannot be trusted; who reads it knows whose it is."""
    return ServiceError(f"protocol error: it {problem}")
