"""What a client makes of the messages of its stream, with a clock that the test turns."""

from __future__ import annotations

import grpc
import pytest

from coherence.listening import Listener
from neardict._changes import Changes
from neardict._session import BACKOFF, PING_SECONDS, Session
from neardict.v1 import storage_pb2 as pb

DOMAIN = "d"


class Heard(Listener):
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.fresh = False
        self.resets = 0

    def freshen(self) -> None:
        """See neardict._changes.Listener."""
        self.fresh = True

    def stale(self) -> None:
        """See neardict._changes.Listener."""
        self.fresh = False

    def reset(self) -> None:
        """See neardict._changes.Listener."""
        self.resets += 1


class Stream:
    """A session with one domain on an open stream, whose service is the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[pb.WatchRequest] = []
        changes = Changes()
        self.session = changes.session = Session(changes, lambda: self.now, jitter=lambda: 1.0)
        self.heard = Heard()
        changes.subscribe(DOMAIN, self.heard)
        self.session.opened(self.sent.append)

    def subscriptions(self) -> list[int]:
        """Returns, and forgets, from which revisions the client has asked for the domain."""
        asked = [r.subscribe.from_revision for r in self.sent if r.HasField("subscribe")]
        pings = [r for r in self.sent if r.HasField("ping")]
        self.sent.clear()
        for request in pings:
            self.session.received(pb.WatchResponse(heartbeat=pb.Heartbeat(ping=request.ping.number)))
        return asked

    def subscribed(self, revision: int, *, complete: bool = False) -> None:
        subscribed = pb.Subscribed(domain=DOMAIN, revision=revision, complete=complete)
        self.session.received(pb.WatchResponse(subscribed=subscribed))

    def rejected(self, code: grpc.StatusCode) -> None:
        rejected = pb.Rejected(domain=DOMAIN, code=code.value[0])
        self.session.received(pb.WatchResponse(rejected=rejected))

    def wait(self) -> float:
        """Lets time pass, a ping at a time, until the client asks for the domain again; returns how long."""
        began = self.now
        while not self.subscriptions():
            assert self.now < began + 10 * BACKOFF.longest
            self.now += PING_SECONDS / 4
            assert self.session.tick() is not None
        return self.now - began


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_a_rejected_subscription_is_tried_again_ever_more_rarely(stream: Stream) -> None:
    assert stream.subscriptions() == [0]
    waits = []
    for _ in range(7):
        stream.rejected(grpc.StatusCode.UNAVAILABLE)
        assert not stream.heard.fresh
        waits.append(stream.wait())
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    stream.subscribed(7)
    assert stream.heard.fresh
    # What is rejected after that is another matter.
    stream.rejected(grpc.StatusCode.UNAVAILABLE)
    assert stream.wait() == BACKOFF.first


def test_what_is_held_waits_for_a_subscription_that_was_rejected(stream: Stream) -> None:
    stream.subscriptions()
    stream.subscribed(7)
    stream.session.lost()
    stream.session.opened(stream.sent.append)
    assert stream.subscriptions() == [7]
    resets = stream.heard.resets
    stream.rejected(grpc.StatusCode.UNAVAILABLE)
    stream.now += BACKOFF.first
    stream.session.tick()
    assert stream.subscriptions() == [7]
    assert (stream.heard.fresh, stream.heard.resets) == (False, resets)
    stream.subscribed(9, complete=True)
    assert (stream.heard.fresh, stream.heard.resets) == (True, resets)


def test_a_rejection_that_will_last_is_not_tried_again(stream: Stream) -> None:
    stream.subscriptions()
    stream.rejected(grpc.StatusCode.UNIMPLEMENTED)
    for _ in range(100):
        stream.now += PING_SECONDS
        stream.session.tick()
        assert stream.subscriptions() == []
    # But at another service, which may have another configuration.
    stream.session.lost()
    stream.session.opened(stream.sent.append)
    assert stream.subscriptions() == [0]


def test_a_new_stream_tries_at_once_and_only_once(stream: Stream) -> None:
    stream.subscriptions()
    stream.rejected(grpc.StatusCode.UNAVAILABLE)
    stream.session.lost()
    stream.session.opened(stream.sent.append)
    assert stream.subscriptions() == [0]
    stream.now += BACKOFF.first
    stream.session.tick()
    assert stream.subscriptions() == []


def test_what_nobody_uses_any_more_is_not_tried_again(stream: Stream) -> None:
    stream.subscriptions()
    stream.rejected(grpc.StatusCode.UNAVAILABLE)
    del stream.heard
    stream.now += PING_SECONDS
    stream.session.tick()
    assert [request.WhichOneof("request") for request in stream.sent] == ["ping", "unsubscribe"]


def test_one_of_whom_the_service_was_not_sure_before_it_had_begun_is_asked_about_again(
    stream: Stream,
) -> None:
    heartbeat = pb.Heartbeat(ping=1, uncertain_domains=[DOMAIN])
    stream.session.received(pb.WatchResponse(heartbeat=heartbeat))
    stream.sent.clear()
    stream.subscribed(7)
    assert (stream.heard.fresh, stream.session.settled(DOMAIN)) == (False, False)
    assert [request.ping.number for request in stream.sent] == [2]
    stream.session.received(pb.WatchResponse(heartbeat=pb.Heartbeat(ping=2)))
    assert (stream.heard.fresh, stream.session.settled(DOMAIN)) == (True, True)


def test_one_of_whom_the_service_is_not_sure_is_settled_all_the_same(stream: Stream) -> None:
    for number in (1, 2):
        stream.subscribed(7)
        heartbeat = pb.Heartbeat(ping=number, uncertain_domains=[DOMAIN])
        stream.session.received(pb.WatchResponse(heartbeat=heartbeat))
    assert stream.session.settled(DOMAIN)
    assert not stream.heard.fresh


def heartbeat(stream: Stream, *uncertain: str, ping: int = 0) -> None:
    message = pb.Heartbeat(ping=ping, uncertain_domains=uncertain)
    stream.session.received(pb.WatchResponse(heartbeat=message))


def last_ping(stream: Stream) -> int:
    return max(request.ping.number for request in stream.sent if request.HasField("ping"))


@pytest.mark.parametrize("answered", [True, False], ids=["a ping answered before", "none"])
def test_a_heartbeat_of_the_services_own_accord_that_is_uncertain_is_believed_at_once(
    stream: Stream, answered: bool
) -> None:
    number = last_ping(stream)
    heartbeat(stream, ping=number)
    stream.subscribed(7)
    assert [stream.heard.fresh] == [True]
    heartbeat(stream, "another", DOMAIN, ping=number if answered else 0)
    assert [stream.heard.fresh] == [False]
    # One without it, of the service's own accord too, proves nothing.
    heartbeat(stream)
    assert [stream.heard.fresh] == [False]
    stream.session.ping()
    heartbeat(stream, ping=last_ping(stream))
    assert [stream.heard.fresh] == [True]


def test_a_heartbeat_of_its_own_accord_ends_a_lease_too(stream: Stream) -> None:
    stream.heard.leased = True
    stream.session.join(DOMAIN, stream.heard)
    heartbeat(stream, ping=last_ping(stream))
    subscribed = pb.Subscribed(domain=DOMAIN, revision=7)
    subscribed.lease_duration.FromSeconds(3)
    for _ in range(2):  # the first answers the request from before a lease was wanted
        stream.session.received(pb.WatchResponse(subscribed=subscribed))
    lease = stream.session.lease(DOMAIN)
    assert lease.until > stream.now
    heartbeat(stream, DOMAIN)
    assert lease.until < stream.now
