"""A service that is wrong, or hostile: every call ends in time, with a right answer or an error of ours."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

import neardict
from neardict import _compression
from neardict.cli.run import run
from neardict.v1 import storage_pb2 as pb

from .either_client import EITHER
from .scripted_service import REVISION, FailedError, ScriptedService, entry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
SECONDS = 30.0
BEYOND = 2**53
MOST = 2**64 - 1
SECRET = "a secret of somebody"
BOMB = zstd.compress(bytes(384 * MIB), 1)
# Says that it has so many bytes, and has them.
LARGE = zstd.compress(bytes(32 * MIB), 1)
LATE = timestamp_pb2.Timestamp(seconds=10**15)
ODD = timestamp_pb2.Timestamp(seconds=10, nanos=-1)
NO_TIME = duration_pb2.Duration(seconds=-5)

NUMBERS: Any = [99, -5]
UNKNOWN: dict[str, Any] = {
    "compressions": NUMBERS,
    "backends": [pb.BackendInfo(name="b", capabilities=NUMBERS)],
}

MENDABLE = (neardict.ServiceError, neardict.UnavailableError, neardict.DeadlineExceededError)

either = pytest.mark.parametrize("client", EITHER)
ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "calls"])


def is_refused(error: BaseException, address: str) -> None:
    """Asserts that the error says what the service did, and not what it sent."""
    assert isinstance(error, neardict.ServiceError)
    assert str(error).startswith(f"protocol error: {address} ")
    assert SECRET not in str(error)
    assert error.__suppress_context__ or not isinstance(error.__context__, grpc.RpcError)


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    """Asserts that no more than so many bytes are taken at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def found(**fields: Any) -> pb.GetValueResponse:
    return pb.GetValueResponse(found=True, entry=entry("k", **fields), domain_revision=REVISION)


LOOKUPS = {
    "another key": found(key="l", value=pb.Value(json=json.dumps(SECRET))),
    "no key": found(key=""),
    "no entry": pb.GetValueResponse(found=True),
    "no revision": found(revision=0),
    "a revision beyond": found(revision=BEYOND),
    "the last revision": found(revision=MOST),
    "a domain's revision beyond": pb.GetValueResponse(domain_revision=MOST),
    "no kind of value": found(value=pb.Value()),
    "compressed unasked": found(value=pb.Value(json_zstd=BOMB)),
    "compressed bytes unasked": found(value=pb.Value(raw_zstd=BOMB)),
    "a late time": found(expire_time=LATE),
    "an odd time": found(expire_time=ODD),
}


@either
@ways
@pytest.mark.parametrize("answer", LOOKUPS.values(), ids=LOOKUPS)
def test_an_answer_that_is_none_to_the_look_up_is_refused(
    client: Any, stream: bool, answer: pb.GetValueResponse
) -> None:
    with (
        ScriptedService(stream=stream) as service,
        client(service.address, watch=False) as here,
        memory_below(64 * MIB),
    ):
        for name, *args in (("get_value", "d", "k"), ("get_entry", "d", "k")):
            service.answers["GetValue"] = lambda request: answer
            with pytest.raises(neardict.ServiceError) as caught:
                here.do(name, *args)
            is_refused(caught.value, service.address)
            service.answers.clear()
            assert here.do("get_value", "d", "k") == 1
        cache = here.do("dict", "d", load=False)
        service.answers["GetValue"] = lambda request: answer
        with pytest.raises(neardict.ServiceError) as caught:
            here.on(cache, "fetch", "k")
        is_refused(caught.value, service.address)
        with pytest.raises(neardict.BulkError) as many:
            here.do("get_many", "d", ["k", "k2"])
        assert {type(error) for error in many.value.failures.values()} == {neardict.ServiceError}
        service.answers.clear()
        assert here.on(cache, "fetch", "k") == 1


WRITTEN = {
    "no revision": {"revision": 0},
    "a revision beyond": {"revision": BEYOND},
    "the last revision": {"revision": MOST},
    "a late time": {"revision": REVISION, "expire_time": LATE},
    "an odd time": {"revision": REVISION, "expire_time": ODD},
}


@either
@ways
@pytest.mark.parametrize("fields", WRITTEN.values(), ids=WRITTEN)
def test_an_answer_that_is_none_to_the_write_is_refused(
    client: Any, stream: bool, fields: dict[str, Any]
) -> None:
    with ScriptedService(stream=stream) as service, client(service.address, watch=False) as here:
        cache = here.do("dict", "d", load=False)
        service.answers["SetValue"] = lambda request: pb.SetValueResponse(**fields)
        service.answers["WriteValue"] = lambda request: pb.WriteValueResponse(**fields)
        for value in (1, b"x" * 8 * MIB):
            with pytest.raises(neardict.ServiceError) as caught:
                here.do("set_value", "d", "k", value)
            is_refused(caught.value, service.address)
        with pytest.raises(neardict.ServiceError):
            here.on(cache, "setdefault", "new", 7)
        assert not dict.__contains__(cache, "new")
        if fields["revision"] > REVISION:
            service.answers["DeleteKey"] = lambda request: pb.DeleteKeyResponse(**fields)
            with pytest.raises(neardict.ServiceError) as caught:
                here.do("delete_key", "d", "k")
            is_refused(caught.value, service.address)
        service.answers.clear()
        assert here.do("set_value", "d", "k", 1) == REVISION + 1


RESULTS = {
    "nothing": {},
    "of another kind": {"delete_key": pb.DeleteKeyResponse(existed=True, revision=REVISION)},
    "no code": {"error": pb.OperationError()},
    "an unknown code": {"error": pb.OperationError(code=99, message="?")},
    "a conflict with nothing": {"error": pb.OperationError(code=10, metadata={"current_revision": "abc"})},
}


@either
@pytest.mark.parametrize("fields", RESULTS.values(), ids=RESULTS)
def test_a_result_that_is_none_of_the_operation_is_an_error(client: Any, fields: dict[str, Any]) -> None:
    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers["Execute"] = lambda operation: pb.ExecuteResponse(
            results=[
                # One that nobody waits for, and then one that comes twice.
                pb.OperationResult(number=MOST, get_value=found()),
                pb.OperationResult(number=operation.number, **fields),
                pb.OperationResult(number=operation.number, get_value=found()),
            ]
        )
        with pytest.raises(neardict.ServiceError):
            here.do("get_value", "d", "k")
        service.answers.clear()
        # Also an answer that comes beside what is not asked for.
        assert here.do("get_value", "d", "k") == 1


@either
@ways
def test_bytes_that_are_no_message_are_an_error(client: Any, stream: bool) -> None:
    with ScriptedService(stream=stream) as service, client(service.address, watch=False, timeout=2) as here:
        for name in ("AllKeys", "ReadValue", "WriteValue", "GetServerInfo", "Execute", "GetValue"):
            if name != "GetValue" or not stream:
                service.answers[name] = lambda request: (
                    [b"\xff\xff"] if name in ("AllKeys", "ReadValue") else b"\xff\xff"  # noqa: B023
                )
        service.answers.setdefault("GetValue", lambda request: found())
        calls: list[tuple[Any, ...]] = [
            ("get_value", "d", "k"),
            ("set_value", "d", "k", b"x" * 8 * MIB),
            ("all_keys", "d"),
            ("all_entries", "d"),
            ("dict", "d"),
            ("server_info",),
        ]
        for name, *args in calls:
            # A stream is opened again and again, while there is time.
            with pytest.raises(MENDABLE):
                here.do(name, *args)
        service.answers.clear()
        assert here.do("get_value", "d", "k") == 1


def page(**fields: Any) -> pb.AllKeysResponse:
    return pb.AllKeysResponse(**({"domain_revision": REVISION} | fields))


LISTINGS: dict[str, tuple[bool, list[pb.AllKeysResponse]]] = {
    "keys twice in a page": (False, [page(keys=["p1", "p1"])]),
    "keys twice": (False, [page(keys=["p1"]), page(keys=["p2", "p1"])]),
    "keys with another prefix": (False, [page(keys=["p1", "q"])]),
    "an empty key": (False, [page(keys=["p1", ""])]),
    "entries for keys": (False, [page(entries=[entry("p1")])]),
    "several revisions": (False, [page(keys=["p1"]), page(keys=["p2"], domain_revision=REVISION + 1)]),
    "a revision beyond": (False, [page(keys=["p1"], domain_revision=MOST)]),
    "too many keys": (False, [page(keys=["p1"], total_keys=MOST)]),
    "entries twice": (True, [page(entries=[entry("p1")]), page(entries=[entry("p1", revision=7)])]),
    "entries that cannot be read": (True, [page(entries=[entry("p1")], unreadable_keys=["p1"])]),
    "entries with another prefix": (True, [page(entries=[entry("p1"), entry("q")])]),
    "large keys with another prefix": (True, [page(large_keys=["k"])]),
    "keys for entries": (True, [page(keys=["p1"])]),
    "entries without a revision": (True, [page(entries=[entry("p1"), entry("p2", revision=0)])]),
    "entries beyond": (True, [page(entries=[entry("p1"), entry("p2", revision=BEYOND)])]),
    "entries with a late time": (True, [page(entries=[entry("p1"), entry("p2", expire_time=LATE)])]),
    "entries with an odd time": (True, [page(entries=[entry("p1", expire_time=ODD)])]),
    "entries compressed": (True, [page(entries=[entry("p1", value=pb.Value(json_zstd=BOMB))])]),
}


@either
@pytest.mark.parametrize(("entries", "pages"), LISTINGS.values(), ids=LISTINGS)
def test_a_page_that_is_none_of_the_listing_is_refused(
    client: Any, entries: bool, pages: list[pb.AllKeysResponse]
) -> None:
    name = "all_entries" if entries else "all_keys"
    with (
        ScriptedService() as service,
        client(service.address, watch=False) as here,
        memory_below(64 * MIB),
    ):
        service.answers["AllKeys"] = lambda request: pages
        with pytest.raises(neardict.ServiceError, match="protocol error: ") as caught:
            here.do(name, "d", prefix="p")
        assert SECRET not in str(caught.value)
        if entries and not pages[0].large_keys and pages[0].entries[-1:] != [entry("q")]:
            # They are wrong without a prefix too.
            with pytest.raises(neardict.ServiceError, match="protocol error: "):
                here.do("dict", "d")
        service.answers.clear()
        assert len(here.do(name, "d")) == 1
        assert here.do("dict", "d") == {"k": 1}


@either
def test_a_listing_of_nothing_without_end_ends(client: Any) -> None:
    def nothing(request: Any) -> Iterator[pb.AllKeysResponse]:
        while True:
            yield page()

    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers["AllKeys"] = nothing
        with pytest.raises(neardict.ServiceError) as caught:
            here.do("all_keys", "d")
        is_refused(caught.value, service.address)


@either
def test_what_cannot_be_read_is_left_out_of_a_listing(client: Any) -> None:
    texts = ["[1", "[" * 100_000, '{"a":', "1 2", ""]
    bad = [entry(str(n), value=pb.Value(json=text)) for n, text in enumerate(texts)]
    bad.append(entry("no kind", value=pb.Value()))
    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers["AllKeys"] = lambda request: [page(entries=[*bad, entry("k")])]
        mirror = here.do("dict", "d")
        with pytest.raises(neardict.UndecodableValueError):
            here.do("all_entries", "d")
        for broken in bad[:-1]:
            service.answers["GetValue"] = lambda request: pb.GetValueResponse(
                found=True,
                entry=broken,  # noqa: B023
                domain_revision=REVISION,
            )
            with pytest.raises(neardict.UndecodableValueError):
                here.do("get_value", "d", broken.key)
        assert dict.__getitem__(mirror, "k") == 1


def head(size: int = 4, **fields: Any) -> pb.ReadValueResponse:
    fields = {"value": pb.Value(raw=b"")} | fields
    return pb.ReadValueResponse(head=pb.ReadValueHead(answer=found(**fields), size=size))


def chunk(data: bytes) -> pb.ReadValueResponse:
    return pb.ReadValueResponse(chunk=data)


ABSENT = pb.ReadValueHead(answer=pb.GetValueResponse(domain_revision=REVISION), size=4)
READS = {
    "nothing": [],
    "no part": [pb.ReadValueResponse()],
    "no head": [chunk(b"abcd")],
    "two heads": [head(), head(), chunk(b"abcd")],
    "a head late": [chunk(b"ab"), head(), chunk(b"cd")],
    "more": [head(), chunk(b"abc"), chunk(b"de")],
    "an empty chunk": [head(), chunk(b""), chunk(b"abcd")],
    "another key": [head(key="l"), chunk(b"abcd")],
    "no revision": [head(revision=0), chunk(b"abcd")],
    "the last revision": [head(revision=MOST), chunk(b"abcd")],
    "a late time": [head(expire_time=LATE), chunk(b"abcd")],
    "no kind": [head(value=pb.Value()), chunk(b"abcd")],
    "compressed": [head(len(BOMB), value=pb.Value(raw_zstd=b"")), chunk(BOMB)],
    "of an absent key": [pb.ReadValueResponse(head=ABSENT), chunk(b"abcd")],
    "more than it takes": [head(MIB + 1), chunk(b"abcd")],
    "more than there is": [head(MOST), chunk(b"abcd")],
}


def in_chunks(request: Any) -> Any:
    info = error_details_pb2.ErrorInfo(reason="VALUE_NEEDS_CHUNKS", domain="neardict")
    raise FailedError(grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", details(info)))


def details(info: Any) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(info)
    status: bytes = status_pb2.Status(details=[packed]).SerializeToString()
    return status


@either
@pytest.mark.parametrize("parts", READS.values(), ids=READS)
def test_parts_that_are_none_of_a_value_are_refused(client: Any, parts: list[pb.ReadValueResponse]) -> None:
    with (
        ScriptedService(stream=False) as service,
        client(service.address, watch=False) as here,
        memory_below(64 * MIB),
    ):
        service.answers |= {"GetValue": in_chunks, "ReadValue": lambda request: parts}
        with pytest.raises(neardict.ServiceError) as caught:
            here.do("get_value", "d", "k")
        is_refused(caught.value, service.address)
        del service.answers["ReadValue"]
        assert here.do("get_value", "d", "k") == 1
        service.answers.clear()
        assert here.do("get_value", "d", "k") == 1


@either
def test_chunks_without_end_are_not_read(client: Any) -> None:
    sent: list[int] = []

    def parts(request: Any) -> Iterator[pb.ReadValueResponse]:
        yield head(10)
        while True:
            sent.append(1)
            yield chunk(b"0123456789")

    with ScriptedService(stream=False) as service, client(service.address, watch=False) as here:
        service.answers |= {"GetValue": in_chunks, "ReadValue": parts}
        with pytest.raises(neardict.ServiceError):
            here.do("get_value", "d", "k")
        # The stream was ended, so that no more is sent.
        until(lambda: service.ended == 1)


@either
def test_a_limit_that_was_raised_is_asked_for(client: Any) -> None:
    value = bytes(3 * MIB)

    def info(request: Any) -> pb.GetServerInfoResponse:
        return pb.GetServerInfoResponse(limits=pb.Limits(max_value_bytes=limit))

    limit = MIB
    with ScriptedService(stream=False) as service, client(service.address, watch=False) as here:
        service.answers |= {
            "GetValue": in_chunks,
            "ReadValue": lambda request: [head(len(value)), chunk(value)],
            "GetServerInfo": info,
        }
        with pytest.raises(neardict.ServiceError, match="max_value_bytes"):
            here.do("get_value", "d", "k")
        limit = 4 * MIB
        assert here.do("get_value", "d", "k") == value
        asked = service.calls.count("GetServerInfo")
        assert here.do("get_value", "d", "k") == value
        assert service.calls.count("GetServerInfo") == asked
        # What is not known is bounded by what none can be configured to take.
        limit = 0
        service.answers["ReadValue"] = lambda request: [head(256 * MIB + 1), chunk(b"x")]
        with pytest.raises(neardict.ServiceError, match="max_value_bytes"):
            here.do("get_value", "d", "k")


@either
def test_limits_that_cannot_be_asked_for_are_not_lifted(client: Any) -> None:
    def fail(request: Any) -> Any:
        raise FailedError(grpc.StatusCode.UNAVAILABLE)

    with ScriptedService(stream=False) as service, client(service.address, watch=False) as here:
        service.answers |= {
            "GetValue": in_chunks,
            "ReadValue": lambda request: [head(2 * MIB), chunk(bytes(2 * MIB))],
            "GetServerInfo": fail,
        }
        with pytest.raises((neardict.UnavailableError, neardict.DeadlineExceededError)):
            here.do("get_value", "d", "k", timeout=0.5)
        del service.answers["GetServerInfo"]
        with pytest.raises(neardict.ServiceError, match="max_value_bytes"):
            here.do("get_value", "d", "k")


@either
def test_to_ask_for_limits_takes_no_more_than_what_is_left_of_a_call(client: Any) -> None:
    over = threading.Event()

    def parts(request: Any) -> Iterator[pb.ReadValueResponse]:
        over.wait(2.7)
        yield head(2 * MIB)
        yield chunk(bytes(2 * MIB))

    def hang(request: Any) -> Any:
        over.wait(SECONDS)
        raise FailedError(grpc.StatusCode.UNAVAILABLE)

    with ScriptedService(stream=False) as service, client(service.address, watch=False) as here:
        service.answers |= {"GetValue": in_chunks, "ReadValue": parts, "GetServerInfo": hang}
        begun = time.monotonic()
        with pytest.raises((neardict.UnavailableError, neardict.DeadlineExceededError)):
            here.do("get_value", "d", "k", timeout=3)
        assert time.monotonic() - begun < 5
        over.set()


def of_kind(kind: str, frame: bytes) -> pb.Value:
    return pb.Value(json_zstd=frame) if kind == "json_zstd" else pb.Value(raw_zstd=frame)


@either
def test_a_mirror_leaves_out_what_is_larger_than_the_service_takes_by_now(client: Any) -> None:
    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers["AllKeys"] = lambda request: [page(entries=[entry("l")], large_keys=["k"])]
        service.answers["ReadValue"] = lambda request: [head(2 * MIB), chunk(bytes(MIB)), chunk(bytes(MIB))]
        assert dict.keys(here.do("dict", "d")) == {"l"}
        service.answers["ReadValue"] = lambda request: [head(4, key="l")]
        with pytest.raises(neardict.ServiceError):
            here.do("dict", "d")


def bombs(value: pb.Value) -> dict[str, Callable[[Any], Any]]:
    kind = value.WhichOneof("kind")
    assert kind is not None
    frame = getattr(value, kind)
    empty = of_kind(kind, b"")
    return {
        "GetValue": lambda request: found(value=value),
        "AllKeys": lambda request: [page(entries=[entry("k", value=value)])],
        "ReadValue": lambda request: [head(len(frame), value=empty), chunk(frame)],
    }


@either
@pytest.mark.parametrize("frame", [BOMB, LARGE], ids=["384 MiB", "32 MiB"])
@pytest.mark.parametrize("kind", ["json_zstd", "raw_zstd"])
def test_what_was_asked_for_compressed_is_bounded_by_the_limits(client: Any, frame: bytes, kind: str) -> None:
    value = of_kind(kind, frame)
    with (
        ScriptedService(stream=False) as service,
        client(service.address, watch=False, compression="zstd") as here,
        memory_below(16 * MIB),
    ):
        service.answers |= bombs(value)
        calls: list[tuple[str, ...]] = [("get_value", "d", "k"), ("all_entries", "d"), ("dict", "d")]
        for name, *args in calls:
            with pytest.raises(neardict.ServiceError, match="max_message_value_bytes") as caught:
                here.do(name, *args)
            is_refused(caught.value, service.address)
        service.answers["GetValue"] = in_chunks
        with pytest.raises(neardict.ServiceError, match="max_value_bytes"):
            here.do("get_value", "d", "k")
        service.answers.clear()
        assert here.do("get_value", "d", "k") == 1


@either
def test_the_values_of_a_page_are_bounded_together(client: Any) -> None:
    frame = zstd.compress(bytes(MIB), 1)
    many = [entry(f"k{number}", value=pb.Value(raw_zstd=frame)) for number in range(1_000)]
    with (
        ScriptedService() as service,
        client(service.address, watch=False, compression="zstd") as here,
        memory_below(32 * MIB),
    ):
        service.answers["AllKeys"] = lambda request: [page(entries=many)]
        with pytest.raises(neardict.ServiceError, match="max_message_value_bytes"):
            here.do("dict", "d")
        service.answers["AllKeys"] = lambda request: [page(entries=many[:1])]
        assert here.do("dict", "d") == {"k0": bytes(MIB)}


def stating(size: int, data: bytes) -> bytes:
    """Returns a frame of so much data that its header has four bytes for the size, and states another one."""
    frame: bytes = zstd.compress(data, 1)
    assert zstd.get_frame_info(frame).decompressed_size == len(data)
    assert frame[6:10] == len(data).to_bytes(4, "little")
    header: bytes = frame[:6]
    return header + size.to_bytes(4, "little") + frame[10:]


FRAMES = {
    "no frame": b"no frame at all",
    "nothing": b"",
    "half a frame": zstd.compress(b'"abc"' * 1000, 1)[:-9],
    "two frames": zstd.compress(b'"a"', 1) + zstd.compress(b'"b"', 1),
    "another size": stating(1000, bytes(MIB)),
    "no size": b'\x28\xb5\x2f\xfd\x00\x58\x29\x00\x00"abc"',
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@either
def test_a_frame_that_is_not_what_it_seems_is_an_undecodable_value(client: Any, frame: bytes) -> None:
    with (
        ScriptedService(stream=False) as service,
        client(service.address, watch=False, compression="zstd") as here,
        memory_below(16 * MIB),
    ):
        for kind in ("json_zstd", "raw_zstd"):
            service.answers |= bombs(of_kind(kind, frame))
            with pytest.raises(neardict.UndecodableValueError):
                here.do("get_value", "d", "k")
            # Others can be read all the same.
            assert dict.keys(here.do("dict", "d")) == set()
            with pytest.raises(neardict.UndecodableValueError):
                here.do("all_entries", "d")


def test_no_more_is_decompressed_than_the_frame_states() -> None:
    lying = stating(1000, bytes(64 * MIB))
    with memory_below(MIB), pytest.raises(neardict.UndecodableValueError):
        _compression.plain(pb.Value(raw_zstd=lying))


REVISIONS = ["abc", "-1", "", "1.5", "0x10", "1_000", " 7", "٣", str(BEYOND), str(MOST), "9" * 5_000]


@either
@ways
@pytest.mark.parametrize("revision", REVISIONS, ids=ascii)
def test_a_conflict_that_tells_no_revision_is_an_error_of_ours(
    client: Any, stream: bool, revision: str
) -> None:
    info = error_details_pb2.ErrorInfo(reason="CONDITION_FAILED", metadata={"current_revision": revision})

    def fail(request: Any) -> Any:
        raise FailedError(grpc.StatusCode.ABORTED, ("grpc-status-details-bin", details(info)))

    def refuse(operation: pb.Operation) -> pb.ExecuteResponse:
        error = pb.OperationError(code=10, reason=info.reason, metadata=info.metadata)
        return pb.ExecuteResponse(results=[pb.OperationResult(number=operation.number, error=error)])

    with ScriptedService(stream=stream) as service, client(service.address, watch=False) as here:
        service.answers |= {"SetValue": fail, "DeleteKey": fail} | ({"Execute": refuse} if stream else {})
        for name, *args in (("set_value", "d", "k", 1), ("delete_key", "d", "k")):
            with pytest.raises(neardict.ServiceError) as caught:
                here.do(name, *args, if_revision=3)
            is_refused(caught.value, service.address)
        service.answers.clear()
        assert here.do("set_value", "d", "k", 1) == REVISION + 1


DETAILS = {
    "no status": b"\xff\xff\xff",
    "no details": status_pb2.Status(
        details=[any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")]
    ).SerializeToString(),
}


@either
@pytest.mark.parametrize("data", DETAILS.values(), ids=DETAILS)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.ABORTED, neardict.ServiceError),
        (grpc.StatusCode.INVALID_ARGUMENT, neardict.InvalidArgumentError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, neardict.LimitExceededError),
        (grpc.StatusCode.UNIMPLEMENTED, neardict.ServiceError),
        (grpc.StatusCode.INTERNAL, neardict.ServiceError),
    ],
    ids=str,
)
def test_details_that_cannot_be_read_leave_the_status(
    client: Any, data: bytes, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    def fail(request: Any) -> Any:
        raise FailedError(code, ("grpc-status-details-bin", data))

    with ScriptedService(stream=False) as service, client(service.address, watch=False) as here:
        service.answers["GetValue"] = fail
        with pytest.raises(kind):
            here.do("get_value", "d", "k")


@either
@pytest.mark.parametrize(
    "fields", [{"heartbeat_period": NO_TIME}, {"limits": pb.Limits(request_id_window=NO_TIME)}]
)
def test_a_service_that_describes_itself_in_nonsense_is_an_error(client: Any, fields: Any) -> None:
    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers["GetServerInfo"] = lambda request: pb.GetServerInfoResponse(**fields)
        with pytest.raises(neardict.ServiceError) as caught:
            here.do("server_info")
        is_refused(caught.value, service.address)
        service.answers.clear()
        here.do("server_info")
        service.answers["GetServerInfo"] = lambda request: pb.GetServerInfoResponse(**UNKNOWN)
        here.do("server_info")


# What a stream of changes may bring.


def changes(*told: pb.Change, domain: str = "d", revision: int | None = None) -> pb.WatchResponse:
    last = told[-1].revision if told else 0
    message = pb.Changes(domain=domain, changes=told, revision=last if revision is None else revision)
    return pb.WatchResponse(changes=message)


def change(**fields: Any) -> pb.Change:
    value = pb.Value(json=json.dumps(SECRET))
    given: dict[str, Any] = {"key": "k", "revision": REVISION + 5, "kind": pb.Change.KIND_SET, "value": value}
    return pb.Change(**(given | fields))


TOLD: dict[str, list[pb.WatchResponse]] = {
    "nothing": [pb.WatchResponse()],
    "no change": [changes(revision=REVISION + 7)],
    "no revision": [changes(change(revision=0))],
    "a revision beyond": [changes(change(revision=BEYOND))],
    "the last revision": [changes(change(revision=MOST))],
    "the last revision, deleted": [changes(change(revision=MOST, kind=pb.Change.KIND_DELETE))],
    "a revision of the message beyond": [changes(change(value=pb.Value(json="1")), revision=MOST)],
    "no key": [changes(change(key=""))],
    "no kind": [changes(change(kind=pb.Change.KIND_UNSPECIFIED))],
    "an unknown kind": [changes(change(kind=77))],
    "compressed": [changes(change(value=pb.Value(json_zstd=BOMB)))],
    "a late time": [changes(change(expire_time=LATE))],
    "an odd time": [changes(change(expire_time=ODD))],
    "a subscription beyond": [pb.WatchResponse(subscribed=pb.Subscribed(domain="d", revision=MOST))],
    "no lease": [
        pb.WatchResponse(subscribed=pb.Subscribed(domain="d", revision=REVISION, lease_duration=NO_TIME))
    ],
    "one number for two keys": [
        pb.WatchResponse(revoke=pb.Revoke(domain="d", key=key, number=1)) for key in "kl"
    ],
}


@either
@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_a_stream_that_cannot_be_understood_is_left_for_another_and_the_dict_stays_right(
    client: Any, told: list[pb.WatchResponse], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "neardict")
    # The first two streams are bad.
    with (
        ScriptedService() as service,
        client(service.address, timeout=5) as here,
        memory_below(64 * MIB),
    ):
        service.answers["Watch"] = lambda number: told if number < 3 else []
        mirror = here.do("dict", "d")
        deadline = time.monotonic() + SECONDS
        while service.streams < 3 or not mirror.fresh:
            assert time.monotonic() < deadline
            here.run(0.02)
            # Whoever asks gets what is stored.
            assert here.on(mirror, "fetch", "k") == 1
        logged = [record for record in caplog.records if "protocol error" in record.getMessage()]
        assert len(logged) == 1
        assert service.address in logged[0].getMessage()
        assert SECRET not in caplog.text
        # Later changes are applied.
        assert here.on(mirror, "fetch", "k") == 1
        service.answers["Watch"] = lambda number: []


@either
def test_a_stream_that_is_bad_each_time_is_opened_ever_more_seldom_and_logged_once(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "neardict")
    with ScriptedService() as service, client(service.address) as here:
        service.answers["Watch"] = lambda number: [pb.WatchResponse()]
        mirror = here.do("dict", "d")
        here.run(3.0)
        # Pauses of up to 0.05, 0.1, 0.2, 0.4, 0.8, 1.6 and 2 seconds; without them there are hundreds.
        assert 2 <= service.streams < 40
        assert here.on(mirror, "fetch", "k") == 1
        assert len([record for record in caplog.records if "protocol error" in record.getMessage()]) == 1


@either
def test_what_nobody_asked_for_on_a_stream_changes_nothing(client: Any) -> None:
    with ScriptedService() as service, client(service.address, timeout=5) as here:
        sent: list[int] = []

        def unasked(number: int) -> Iterator[pb.WatchResponse]:
            yield changes(change(), domain="e")
            yield pb.WatchResponse(subscribed=pb.Subscribed(domain="e", revision=5))
            yield pb.WatchResponse(rejected=pb.Rejected(domain="e", code=99))
            yield pb.WatchResponse(reset=pb.Reset(domain="e"))
            yield pb.WatchResponse(heartbeat=pb.Heartbeat(ping=MOST))
            yield pb.WatchResponse(release=pb.Release(number=MOST))
            # Read after it, the domain would have what this tells.
            loaded.wait(SECONDS)
            # One of a kind that is not known is looked up.
            yield changes(change(value=pb.Value()))
            sent.append(1)

        loaded = threading.Event()
        service.answers["Watch"] = unasked
        service.answers["GetValue"] = lambda request: found(revision=REVISION + 5, value=pb.Value(json="2"))
        mirror = here.do("dict", "d")
        loaded.set()
        deadline = time.monotonic() + SECONDS
        while not sent or here.on(mirror, "fetch", "k") != 2:
            assert time.monotonic() < deadline
            here.run(0.02)
        assert service.streams == 1


# Answers that do not fit together.


@either
@ways
def test_a_look_up_that_is_overtaken_each_time_ends_in_time(client: Any, stream: bool) -> None:
    with ScriptedService(stream=stream) as service, client(service.address, timeout=1.0, watch=False) as here:
        cache = here.do("dict", "d", load=False)

        def overtaken(request: Any) -> pb.GetValueResponse:
            # As by a change that comes while the answer is on its way.
            here.within(cache.doubt, "k")
            return found()

        service.answers["GetValue"] = overtaken
        started = time.monotonic()
        with pytest.raises(neardict.DeadlineExceededError, match="'k' of the domain 'd'"):
            here.on(cache, "fetch", "k")
        assert time.monotonic() - started < SECONDS
        # It asks again and again, but not as often as it can.
        assert 2 < len(service.calls) < 200
        service.answers.clear()
        assert here.on(cache, "fetch", "k") == 1


@either
@pytest.mark.parametrize("name", ["pop", "setdefault", "popitem", "save"])
def test_a_service_that_contradicts_itself_does_not_hold_anybody_for_ever(client: Any, name: str) -> None:
    info = error_details_pb2.ErrorInfo(reason="CONDITION_FAILED", metadata={"current_revision": "7"})
    writes: list[pb.Operation] = []

    def conflict(operation: pb.Operation) -> pb.ExecuteResponse:
        result = pb.OperationResult(number=operation.number)
        if operation.WhichOneof("operation") == "get_value":
            absent = name == "setdefault"
            result.get_value.CopyFrom(pb.GetValueResponse() if absent else found())
        elif operation.set_value.keep_ttl:
            # As an older service, which does not know it.
            result.error.CopyFrom(pb.OperationError(code=3, metadata={"field": "ttl"}))
        else:
            writes.append(operation)
            result.error.CopyFrom(pb.OperationError(code=10, reason=info.reason, metadata=info.metadata))
        return pb.ExecuteResponse(results=[result])

    with ScriptedService() as service, client(service.address, timeout=0.5, watch=False) as here:
        service.answers["Execute"] = conflict
        cache = here.do("dict", "d", load=False)
        if name == "save":
            here.on(cache, "fetch", "k")
        started = time.monotonic()
        with pytest.raises((neardict.DeadlineExceededError, neardict.UnavailableError)):
            here.on(cache, name, *([] if name == "popitem" else ["k"]))
        assert time.monotonic() - started < SECONDS
        assert 2 < len(writes) < 500


# Commands.


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["get", "d", "k"], 6),
        (["get", "d", "k", "--value"], 6),
        (["get", "d", "k", "--text"], 6),
        (["get", "d", "k", "--raw"], 0),
        (["keys", "d", "--values"], 6),
        (["export", "d"], 6),
    ],
    ids=str,
)
def test_a_command_says_that_what_is_stored_is_not_json(
    args: list[str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with ScriptedService() as service:
        broken = entry("k", value=pb.Value(json='{"half": "'))
        service.answers["GetValue"] = lambda request: pb.GetValueResponse(
            found=True, entry=broken, domain_revision=REVISION
        )
        service.answers["AllKeys"] = lambda request: [page(entries=[broken, entry("l")])]
        assert run(["--target", service.address, *args]) == code
    said = capfd.readouterr()
    if code:
        assert "is not JSON" in said.err
        assert "half" not in said.out + said.err
    for line in said.out.splitlines() if code else ():
        json.loads(line)


@pytest.mark.parametrize(
    "args",
    [
        ["get", "d", "k"],
        ["set", "d", "k", "1"],
        ["delete", "d", "k"],
        ["keys", "d"],
        ["keys", "d", "--values"],
        ["export", "d"],
        ["ping"],
        ["watch", "d"],
    ],
    ids=str,
)
def test_a_command_says_that_the_service_is_wrong(args: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedService() as service:
        service.answers |= {
            "GetValue": lambda request: LOOKUPS["another key"],
            "SetValue": lambda request: pb.SetValueResponse(),
            "DeleteKey": lambda request: pb.DeleteKeyResponse(revision=MOST),
            "AllKeys": lambda request: [page(keys=["a", "a"], entries=[entry("a", revision=MOST)])],
            "Watch": lambda number: [changes(change(revision=MOST))],
        }
        if args == ["ping"]:
            service.answers["GetServerInfo"] = lambda request: pb.GetServerInfoResponse(
                heartbeat_period=NO_TIME
            )
        assert run(["--target", service.address, *args]) == 70
        said = capfd.readouterr().err
        assert f"neardict: protocol error: {service.address}" in said
        assert "mistake of neardict" not in said
        assert SECRET not in said


def test_ping_tells_of_capabilities_that_nobody_knows(capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedService() as service:
        service.answers["GetServerInfo"] = lambda request: pb.GetServerInfoResponse(**UNKNOWN)
        assert run(["--target", service.address, "ping"]) == 0
    assert "99" in capfd.readouterr().out


def test_moobius_reports_a_wrong_service_as_any_error() -> None:
    from neardict.moobius import CachedDict, RemoteDatabase

    with ScriptedService() as service:
        service.answers["GetValue"] = lambda request: LOOKUPS["another key"]
        database = RemoteDatabase("d", service.address)
        with pytest.raises(neardict.ServiceError):
            database.get_value("k")
        service.answers["SetValue"] = lambda request: pb.SetValueResponse(revision=MOST)
        stored, message = database.set_value("k", 1)
        assert not stored
        assert message.startswith("protocol error: ")
        with pytest.raises(neardict.ServiceError):
            CachedDict(database)["k"]
        service.answers.clear()
        assert database.get_value("k") == (True, 1)
        assert CachedDict(database)["k"] == 1
