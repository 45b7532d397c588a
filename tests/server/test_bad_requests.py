"""The rest of a request, bad and odd, and bytes that are none, at the served binary."""

import random
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message

from kinds import TYPES
from neardict.v1 import storage_pb2 as pb
from neardict_server.backends.base import Capability
from places import DOMAIN, INVALID, Place, get, put, refused, write
from wire import Refusal, ask, text_field

RANDOM_MESSAGES = 200
REQUESTS: dict[str, type[Message]] = {
    "GetValue": pb.GetValueRequest,
    "SetValue": pb.SetValueRequest,
    "DeleteKey": pb.DeleteKeyRequest,
    "AllKeys": pb.AllKeysRequest,
    "GetServerInfo": pb.GetServerInfoRequest,
}


def test_a_write_without_a_value_is_refused(place: Place) -> None:
    for request in (pb.SetValueRequest(domain=DOMAIN, key="k"), write("k", pb.Value())):
        assert refused(place, "SetValue", request) == (INVALID, "INVALID_VALUE")


def test_if_revision_0_is_refused(place: Place) -> None:
    set_request = write("k", pb.Value(json="1"), if_revision=0)
    assert refused(place, "SetValue", set_request) == (INVALID, "INVALID_REQUEST")
    delete_request = pb.DeleteKeyRequest(domain=DOMAIN, key="k", if_revision=0)
    assert refused(place, "DeleteKey", delete_request) == (INVALID, "INVALID_REQUEST")


def test_a_revision_that_no_entry_has_is_a_condition_that_fails(place: Place) -> None:
    for revision in (1, 2**53, 2**63 - 1, 2**63, 2**64 - 1):
        for method, request in (
            ("SetValue", write("absent", pb.Value(json="1"), if_revision=revision)),
            ("DeleteKey", pb.DeleteKeyRequest(domain=DOMAIN, key="absent", if_revision=revision)),
        ):
            answer = ask(place.channel, method, request)
            assert isinstance(answer, Refusal)
            assert (answer.code, answer.reason) == (grpc.StatusCode.ABORTED, "CONDITION_FAILED")
            assert answer.metadata == {"current_revision": "0"}


def test_if_absent_false_is_no_condition(place: Place) -> None:
    put(place, "present", pb.Value(json="1"))
    put(place, "present", pb.Value(json="2"), if_absent=False)


BAD_TTLS = {
    "zero": (0, 0),
    "negative": (-1, 0),
    "negative nanos": (0, -1),
    "mixed signs": (1, -1),
    "the other mixed signs": (-1, 1),
    "nanos of a second": (0, 10**9),
    "largest nanos": (0, 2**31 - 1),
    "more than 100 years": (100 * 365 * 86400, 1000),
    "longest": (2**63 - 1, 999_999_999),
    "shortest": (-(2**63), -999_999_999),
}


@pytest.mark.parametrize(("seconds", "nanos"), BAD_TTLS.values(), ids=BAD_TTLS.keys())
def test_a_bad_ttl_is_refused(place: Place, seconds: int, nanos: int) -> None:
    ttl = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    request = write("k", pb.Value(json="1"), ttl=ttl)
    assert refused(place, "SetValue", request) == (INVALID, "INVALID_REQUEST")


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 1), (0, 999_999_999), (1, 1), (100 * 365 * 86400, 0)])
def test_a_good_ttl_is_kept_or_the_missing_capability_named(place: Place, seconds: int, nanos: int) -> None:
    ttl = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    if Capability.TTL in TYPES[place.kind].capabilities:
        assert put(place, "expiring", pb.Value(json="1"), ttl=ttl).HasField("expire_time")
        return
    answer = ask(place.channel, "SetValue", write("expiring", pb.Value(json="1"), ttl=ttl))
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNIMPLEMENTED, "CAPABILITY_MISSING")
    assert answer.metadata == {"capability": "CAPABILITY_TTL"}
    assert not get(place, "expiring").found


@pytest.mark.parametrize(
    "contradiction", [{"ttl": duration_pb2.Duration(nanos=1)}, {"if_absent": True}], ids=["ttl", "if_absent"]
)
def test_what_contradicts_keep_ttl_is_refused(place: Place, contradiction: dict[str, Any]) -> None:
    request = write("k", pb.Value(json="1"), keep_ttl=True, **contradiction)
    assert refused(place, "SetValue", request) == (INVALID, "INVALID_REQUEST")


def test_a_ttl_of_0_beside_keep_ttl_is_for_older_services(place: Place) -> None:
    put(place, "kept", pb.Value(json="1"))
    kept = put(place, "kept", pb.Value(json="2"), keep_ttl=True, ttl=duration_pb2.Duration())
    assert not kept.HasField("expire_time")
    assert get(place, "kept").found == place.keeps


@pytest.mark.parametrize("request_id", ["x" * 65, "é" * 33, "\0", "a\0", "\U0001f600" * 17], ids=repr)
def test_a_bad_request_id_is_refused(place: Place, request_id: str) -> None:
    for method, request in (
        ("SetValue", write("k", pb.Value(json="1"), request_id=request_id)),
        ("DeleteKey", pb.DeleteKeyRequest(domain=DOMAIN, key="k", request_id=request_id)),
    ):
        assert refused(place, method, request) == (INVALID, "INVALID_REQUEST")


def test_odd_request_ids_of_the_limit_are_accepted(place: Place) -> None:
    for request_id in ("x" * 64, "é" * 32, "\U0001f600" * 16, ":", "*", "\n", "{}", "../x"):
        first = put(place, "of a request", pb.Value(json="1"), request_id=request_id)
        assert put(place, "of a request", pb.Value(json="1"), request_id=request_id) == first


def test_an_empty_prefix_lists_everything(place: Place) -> None:
    put(place, "one", pb.Value(json="1"), domain="prefixes")
    answer = ask(place.channel, "AllKeys", pb.AllKeysRequest(domain="prefixes", prefix=""))
    assert isinstance(answer, bytes)
    assert list(pb.AllKeysResponse.FromString(answer).keys) == (["one"] if place.keeps else [])


def test_unknown_fields_are_ignored(place: Place) -> None:
    unknown = text_field(99, b"from the future") + b"\xf8\x06\x01"
    known = write("future", pb.Value(json="1")).SerializeToString()
    assert isinstance(ask(place.channel, "SetValue", known + unknown), bytes)
    assert isinstance(ask(place.channel, "SetValue", unknown + known), bytes)
    assert get(place, "future").found == place.keeps


def test_the_last_of_two_kinds_of_value_counts(place: Place) -> None:
    names = text_field(1, DOMAIN.encode()) + text_field(2, b"both")
    value = text_field(3, text_field(1, b"NaN") + text_field(2, b"raw"))
    assert isinstance(ask(place.channel, "SetValue", names + value), bytes)
    if place.keeps:
        assert get(place, "both").entry.value.raw == b"raw"


def test_random_bytes_are_refused_or_answered(place: Place) -> None:
    randomness = random.Random(20261123)
    outcomes = set()
    for _ in range(RANDOM_MESSAGES):
        method = randomness.choice(list(REQUESTS))
        data = randomness.randbytes(randomness.choice([1, 2, 5, 20, 100, 1000]))
        if randomness.random() < 0.5:
            # Nearly a message: a bit of a good one is turned.
            good = bytearray(write("k", pb.Value(json='{"a": 1}'), request_id="r").SerializeToString())
            good[randomness.randrange(len(good))] ^= 1 << randomness.randrange(8)
            data = bytes(good)
        answer = ask(place.channel, method, data)
        if isinstance(answer, bytes):
            REQUESTS[method].FromString(data)
        else:
            assert answer.code in (INVALID, grpc.StatusCode.ABORTED, grpc.StatusCode.UNIMPLEMENTED), answer
            assert (answer.domain, bool(answer.reason)) == ("neardict", True)
            if answer.reason == "INVALID_REQUEST" and "not a valid message" in answer.message:
                with pytest.raises(DecodeError):
                    REQUESTS[method].FromString(data)
        outcomes.add("OK" if isinstance(answer, bytes) else answer.reason)
    assert {"OK", "INVALID_REQUEST"} <= outcomes


def test_an_unknown_method_is_unimplemented(place: Place) -> None:
    answer = ask(place.channel, "Nothing", b"")
    assert isinstance(answer, Refusal)
    assert answer.code == grpc.StatusCode.UNIMPLEMENTED
