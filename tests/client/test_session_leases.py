"""What a client takes a lease for, message by message and with a clock that the test turns."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import duration_pb2

from coherence.listening import Listener
from neardict._changes import Changes
from neardict._session import PING_SECONDS, TRUST_SECONDS, Session
from neardict.v1 import storage_pb2 as pb

DOMAIN = "d"


class Leased(Listener):
    """A listener that notes what it is told, in order."""

    leased = True

    def __init__(self) -> None:
        self.told: list[str] = []

    def freshen(self) -> None:
        self.told.append("fresh")

    def stale(self) -> None:
        self.told.append("stale")

    def revoke(self, key: str, number: int) -> None:
        self.told.append(f"revoke {key} {number}")

    def release(self, key: str, number: int) -> None:
        self.told.append(f"release {key} {number}")


class Stream:
    """A session with one leased domain on an open stream, whose service is the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[pb.WatchRequest] = []
        changes = Changes()
        self.session = changes.session = Session(changes, lambda: self.now)
        self.listener = Leased()
        changes.subscribe(DOMAIN, self.listener)
        self.lease = self.session.lease(DOMAIN)
        self.session.opened(self.sent.append)

    def tell(self, **response: object) -> None:
        self.session.received(pb.WatchResponse(**response))  # type: ignore[arg-type]  # one of them

    def subscribed(self, seconds: int | None = 3) -> None:
        lease = None if seconds is None else duration_pb2.Duration(seconds=seconds)
        self.tell(subscribed=pb.Subscribed(domain=DOMAIN, revision=7, lease_duration=lease))

    def answer(self, ping: int = 1, uncertain: list[str] | None = None) -> None:
        self.tell(heartbeat=pb.Heartbeat(ping=ping, uncertain_domains=uncertain))

    def ping(self) -> int:
        """Sends the next ping, a period later; returns its number."""
        self.now += PING_SECONDS
        assert self.session.tick() is not None
        return max(request.ping.number for request in self.sent)

    @property
    def left(self) -> float:
        """For how many seconds hits may be served."""
        return max(0.0, self.lease.until - self.now)


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_the_lease_is_asked_for(stream: Stream) -> None:
    (request,) = [request.subscribe for request in stream.sent if request.HasField("subscribe")]
    assert request.lease


def test_it_counts_from_when_the_ping_was_sent_that_was_answered(stream: Stream) -> None:
    stream.subscribed()
    assert stream.left == 0
    stream.now += 1.5
    stream.answer()
    assert stream.left == 1.5
    number = stream.ping()
    stream.answer(number)
    assert stream.left == 3
    stream.now += 3
    assert stream.left == 0


def test_an_answer_from_before_the_subscription_counts_too(stream: Stream) -> None:
    # The service counts from the subscription, and so longer.
    stream.answer()
    stream.now += 1
    assert stream.left == 0
    stream.subscribed()
    assert stream.left == 2


@pytest.mark.parametrize(("given", "expected"), [(1, 1.0), (3, 3.0), (60, TRUST_SECONDS)])
def test_it_lasts_as_long_as_the_service_says_and_as_the_stream_is_trusted(
    stream: Stream, given: int, expected: float
) -> None:
    stream.subscribed(given)
    stream.answer()
    assert stream.left == expected


def test_one_that_has_run_out_is_shown_again_with_the_next_answer(stream: Stream) -> None:
    stream.subscribed(1)
    stream.answer()
    stream.now += 1.5
    number = stream.ping()
    stream.listener.told.clear()
    stream.answer(number)
    # The domain was fresh all the while, as others see it; the dict has looked at the clock by itself.
    assert stream.listener.told == ["fresh"]


def test_what_ends_it(stream: Stream) -> None:
    def renewed() -> None:
        stream.subscribed()
        stream.answer(stream.ping())
        assert stream.left

    renewed()
    stream.answer(stream.ping(), [DOMAIN])
    assert not stream.left
    renewed()
    stream.tell(reset=pb.Reset(domain=DOMAIN))
    assert not stream.left
    renewed()
    stream.tell(rejected=pb.Rejected(domain=DOMAIN, code=grpc.StatusCode.UNAVAILABLE.value[0]))
    assert not stream.left
    renewed()
    stream.session.lost()
    assert not stream.left
    stream.session.opened(stream.sent.append)
    renewed()
    stream.session.close()
    assert not stream.left


def test_a_revoke_is_confirmed_when_it_has_been_told(stream: Stream) -> None:
    told_by_then: list[str] = []

    def send(request: pb.WatchRequest) -> None:
        if request.HasField("revoked"):
            told_by_then.extend(stream.listener.told)
            assert request.revoked.number == 5

    stream.session.lost()
    stream.session.opened(send)
    stream.listener.told.clear()
    # Also before `subscribed`: what is read meanwhile may be from before the write.
    stream.tell(revoke=pb.Revoke(domain=DOMAIN, key="k", number=5))
    assert told_by_then == ["revoke k 5"]
    stream.tell(release=pb.Release(number=5))
    assert stream.listener.told == ["revoke k 5", "release k 5"]
    # Not of this stream.
    stream.tell(release=pb.Release(number=6))
    assert stream.listener.told == ["revoke k 5", "release k 5"]


def test_the_end_of_the_stream_releases_what_is_not_shown_any_more(stream: Stream) -> None:
    stream.subscribed()
    stream.answer()
    stream.tell(revoke=pb.Revoke(domain=DOMAIN, key="k", number=5))
    stream.listener.told.clear()
    stream.session.lost()
    assert stream.listener.told == ["stale", "release k 5"]


def test_without_a_lease_the_domain_is_watched_all_the_same(stream: Stream) -> None:
    stream.sent.clear()
    rejected = pb.Rejected(
        domain=DOMAIN,
        code=grpc.StatusCode.UNIMPLEMENTED.value[0],
        reason="CAPABILITY_MISSING",
        message="no leases here",
    )
    stream.tell(rejected=rejected)
    assert [request.subscribe.lease for request in stream.sent] == [False]
    assert stream.session.refused(DOMAIN) == "no leases here"
    stream.subscribed(None)
    stream.answer()
    assert stream.listener.told[-1] == "fresh"
    assert not stream.left


def test_a_service_that_knows_no_leases_gives_none(stream: Stream) -> None:
    stream.subscribed(None)
    stream.answer()
    assert not stream.left
    assert "old" in stream.session.refused(DOMAIN)


def test_one_who_leaves_gives_it_back(stream: Stream) -> None:
    stream.subscribed()
    stream.answer()
    stream.sent.clear()
    assert stream.session.leave()
    assert [request.unsubscribe.domain for request in stream.sent] == [DOMAIN]
    assert not stream.left
    assert not stream.session.leave()


def test_a_domain_that_was_watched_before_gets_one(stream: Stream) -> None:
    class Plain(Listener):
        pass

    changes = Changes()
    session = changes.session = Session(changes, lambda: 100.0)
    plain, leased = Plain(), Leased()
    changes.subscribe(DOMAIN, plain)
    sent: list[pb.WatchRequest] = []
    session.opened(sent.append)
    changes.subscribe(DOMAIN, leased)
    # One request at a time: the answer to the first must not be taken for a refusal.
    session.received(pb.WatchResponse(subscribed=pb.Subscribed(domain=DOMAIN, revision=7)))
    assert not session.settled(DOMAIN)
    assert not session.refused(DOMAIN)
    assert [request.subscribe.lease for request in sent if request.HasField("subscribe")] == [False, True]


def test_a_listener_that_joins_while_a_key_is_being_written_is_told(stream: Stream) -> None:
    stream.subscribed()
    stream.answer()
    stream.tell(revoke=pb.Revoke(domain=DOMAIN, key="k", number=5))
    stream.tell(revoke=pb.Revoke(domain="another", key="k", number=6))
    # What it reads now may be from before the write, for which nobody will ask it again.
    late = Leased()
    stream.session._changes.subscribe(DOMAIN, late)
    assert late.told == ["revoke k 5", "fresh"]
    stream.tell(release=pb.Release(number=5))
    assert late.told[-1] == "release k 5"


def test_what_is_subscribed_by_then_is_not_tried_again(stream: Stream) -> None:
    stream.tell(rejected=pb.Rejected(domain=DOMAIN, code=grpc.StatusCode.UNAVAILABLE.value[0]))
    # As when another dict is made meanwhile.
    stream.subscribed()
    stream.answer()
    stream.sent.clear()
    stream.answer(stream.ping())
    # The service takes it as said that who subscribes serves nothing.
    assert not [request for request in stream.sent if request.HasField("subscribe")]


def test_who_was_refused_may_ask_again(stream: Stream) -> None:
    stream.subscribed(None)
    assert stream.session.refused(DOMAIN)
    stream.subscribed()
    assert not stream.session.refused(DOMAIN)


def test_a_subscription_is_not_left_before_it_is_answered(stream: Stream) -> None:
    session, changes = stream.session, stream.session._changes
    first = Leased()
    changes.subscribe("other", first)
    del first
    stream.answer(stream.ping())
    # Or else this, on its way, would be taken for the answer to the next one.
    stream.tell(subscribed=pb.Subscribed(domain="other", lease_duration=duration_pb2.Duration(seconds=3)))
    assert "other" in session._domains
    stream.answer(stream.ping())
    assert "other" not in session._domains
    assert [request.unsubscribe.domain for request in stream.sent if request.HasField("unsubscribe")] == [
        "other"
    ]


def test_the_lease_ends_with_the_last_dict_that_needs_it(stream: Stream) -> None:
    plain = Listener()
    stream.session._changes.subscribe(DOMAIN, plain)
    stream.subscribed()
    stream.answer()
    stream.sent.clear()
    stream.ping()
    assert not any(request.HasField("unsubscribe") for request in stream.sent)
    del stream.listener
    stream.sent.clear()
    stream.ping()
    # Given back first, so that no writer waits, and then watched on from where it was.
    _, given_back, again = stream.sent
    assert given_back.unsubscribe.domain == DOMAIN
    assert again.subscribe == pb.Subscribe(domain=DOMAIN, from_revision=7)
    assert not stream.left
