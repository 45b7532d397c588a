"""Values that are compressed on the wire, of stubs alone; and frames that are not what they seem."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import json
import os
import sys
import uuid
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served
from waiting import DEADLINE_SECONDS
from wire import Refusal, refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = DEADLINE_SECONDS
MESSAGE = 1024 * 1024
LARGEST = 16 * 1024 * 1024
DOMAIN = "compressed"
ZSTD = pb.COMPRESSION_ZSTD
TEXT = json.dumps([{"name": f"é {number}", "hp": number} for number in range(2_000)], ensure_ascii=False)
BYTES = TEXT.encode() * 2
LONG = json.dumps(list(range(400_000)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = {
        "NEARDICT_LIMITS__MAX_VALUE_BYTES": str(LARGEST),
        "NEARDICT_LIMITS__MAX_MESSAGE_VALUE_BYTES": str(MESSAGE),
    }
    with Served("--data", tmp_path_factory.mktemp("compression"), env=limits) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server: Served) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as channel:
        yield storage_pb2_grpc.StorageServiceStub(channel)


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def put(stub: Any, key: str, value: pb.Value) -> pb.WriteValueResponse | Refusal:
    try:
        response: pb.WriteValueResponse = stub.SetValue(
            pb.SetValueRequest(domain=DOMAIN, key=key, value=value), timeout=SECONDS
        )
    except grpc.RpcError as error:
        return refusal(error)
    return response


def get(stub: Any, key: str, accept: pb.Compression = pb.COMPRESSION_UNSPECIFIED) -> pb.Value:
    request = pb.GetValueRequest(domain=DOMAIN, key=key, accept=accept)
    answer: pb.GetValueResponse = stub.GetValue(request, timeout=SECONDS)
    return answer.entry.value


def upload(stub: Any, key: str, value: pb.Value, content_size: int) -> pb.WriteValueResponse | Refusal:
    kind = value.WhichOneof("kind")
    assert kind
    data = getattr(value, kind)
    request = pb.SetValueRequest(domain=DOMAIN, key=key, value=pb.Value(**{kind: type(data)()}))

    def parts() -> Iterator[pb.WriteValueRequest]:
        head = pb.WriteValueHead(request=request, size=len(data), content_size=content_size)
        yield pb.WriteValueRequest(head=head)
        for start in range(0, len(data), 10_000):
            yield pb.WriteValueRequest(chunk=data[start : start + 10_000])

    try:
        response: pb.WriteValueResponse = stub.WriteValue(parts(), timeout=SECONDS)
    except grpc.RpcError as error:
        return refusal(error)
    return response


def test_the_service_says_what_it_understands(stub: Any) -> None:
    assert [*stub.GetServerInfo(pb.GetServerInfoRequest()).compressions] == [ZSTD]


def test_what_came_compressed_is_plain_for_everybody_else(stub: Any, key: str) -> None:
    assert isinstance(put(stub, key, pb.Value(json_zstd=zstd.compress(TEXT.encode()))), pb.SetValueResponse)
    assert get(stub, key) == pb.Value(json=TEXT)
    assert isinstance(put(stub, key, pb.Value(raw_zstd=zstd.compress(BYTES))), pb.SetValueResponse)
    assert get(stub, key) == pb.Value(raw=BYTES)


def test_only_who_accepts_it_gets_it_compressed(stub: Any, key: str) -> None:
    put(stub, key, pb.Value(json=TEXT))
    assert get(stub, key) == pb.Value(json=TEXT)
    compressed = get(stub, key, ZSTD)
    assert zstd.decompress(compressed.json_zstd).decode() == TEXT
    assert len(compressed.json_zstd) < len(TEXT) / 3
    put(stub, key, pb.Value(raw=BYTES))
    assert zstd.decompress(get(stub, key, ZSTD).raw_zstd) == BYTES


def test_what_would_not_become_smaller_comes_as_it_is(stub: Any, key: str) -> None:
    for value in (pb.Value(raw=os.urandom(100_000)), pb.Value(json='"short"'), pb.Value(raw=b"x" * 16_000)):
        put(stub, key, value)
        assert get(stub, key, ZSTD) == value


def test_a_listing_may_be_compressed_too(stub: Any) -> None:
    domain = uuid.uuid4().hex
    values = {"text": pb.Value(json=TEXT), "bytes": pb.Value(raw=BYTES), "small": pb.Value(json="1")}
    for key, value in values.items():
        stub.SetValue(pb.SetValueRequest(domain=domain, key=key, value=value), timeout=SECONDS)
    for accept, kinds in (
        (pb.COMPRESSION_UNSPECIFIED, {"text": "json", "bytes": "raw", "small": "json"}),
        (ZSTD, {"text": "json_zstd", "bytes": "raw_zstd", "small": "json"}),
    ):
        request = pb.AllKeysRequest(domain=domain, include_entries=True, accept=accept)
        entries = [entry for page in stub.AllKeys(request, timeout=SECONDS) for entry in page.entries]
        assert {entry.key: entry.value.WhichOneof("kind") for entry in entries} == kinds


def test_changes_tell_the_value_as_it_was_before(stub: Any, key: str) -> None:
    requests: SimpleQueue[pb.WatchRequest | None] = SimpleQueue()
    requests.put(pb.WatchRequest(subscribe=pb.Subscribe(domain=DOMAIN)))
    watching = stub.Watch(iter(requests.get, None), timeout=SECONDS)
    assert next(message for message in watching if message.HasField("subscribed"))
    put(stub, key, pb.Value(json_zstd=zstd.compress(b'"small"')))
    message = next(message for message in watching if message.HasField("changes"))
    assert message.changes.changes[0].value == pb.Value(json='"small"')
    requests.put(None)
    watching.cancel()


def test_chunks_may_be_compressed_both_ways(stub: Any, key: str) -> None:
    for compressed, size, plain in (
        (pb.Value(json_zstd=zstd.compress(LONG.encode())), len(LONG), LONG.encode()),
        (pb.Value(raw_zstd=zstd.compress(b"x" * LARGEST)), LARGEST, b"x" * LARGEST),
    ):
        assert isinstance(upload(stub, key, compressed, size), pb.WriteValueResponse)
        for accept in (pb.COMPRESSION_UNSPECIFIED, ZSTD):
            request = pb.ReadValueRequest(domain=DOMAIN, key=key, accept=accept)
            first, *others = stub.ReadValue(request, timeout=SECONDS)
            data = b"".join(part.chunk for part in others)
            assert len(data) == first.head.size
            assert first.head.answer.entry.value.WhichOneof("kind").endswith("_zstd") is (accept == ZSTD)
            assert (zstd.decompress(data) if accept == ZSTD else data) == plain


FRAME = zstd.compress(TEXT.encode())
WIDE = {
    int(zstd.CompressionParameter.window_log): 27,
    int(zstd.CompressionParameter.compression_level): 1,
}
NOT_FRAMES = {
    "empty": b"",
    "no frame": b"x" * 100,
    "cut": FRAME[:-1],
    "cut in its header": FRAME[:5],
    "changed": FRAME[:50] + bytes([FRAME[50] ^ 255]) + FRAME[51:100],
    "followed by more": FRAME + b"x",
    "two": FRAME + FRAME,
    "of unknown size": (lambda one: one.compress(TEXT.encode()) + one.flush())(zstd.ZstdCompressor()),
    "not UTF-8": zstd.compress(b'"\xff"'),
    "not JSON": zstd.compress(b"{"),
    "no content": zstd.compress(b""),
}


@pytest.mark.parametrize("frame", [pytest.param(frame, id=name) for name, frame in NOT_FRAMES.items()])
def test_what_is_no_compressed_json_is_refused(stub: Any, key: str, frame: bytes) -> None:
    value = pb.Value(json_zstd=frame)
    for said in (put(stub, key, value), upload(stub, key, value, len(TEXT.encode()))):
        assert isinstance(said, Refusal)
        assert (said.code, said.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "neardict")
        assert said.reason == "INVALID_VALUE"
    request = pb.GetValueRequest(domain=DOMAIN, key=key)
    assert not stub.GetValue(request, timeout=SECONDS).found


def test_a_content_size_that_is_not_the_frames_is_refused(stub: Any, key: str) -> None:
    for size in (0, 1, len(TEXT.encode()) - 1, len(TEXT.encode()) + 1):
        said = upload(stub, key, pb.Value(json_zstd=FRAME), size)
        assert isinstance(said, Refusal)
        assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VALUE")


def peak_bytes(server: Served) -> int:
    with open(f"/proc/{server.process.pid}/status") as status:  # noqa: PTH123  # no file, and short
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def lying(frame: bytes, size: int) -> bytes:
    """Returns the frame of 4-byte content size with another size written into it."""
    assert frame[4] >> 6 == 2
    at = 5 if frame[4] & 32 else 6
    return frame[:at] + size.to_bytes(4, "little") + frame[at + 4 :]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_bomb_is_refused_before_it_takes_memory(server: Served, stub: Any, key: str) -> None:
    bomb = zstd.compress(b"\0" * 2**30)
    put(stub, key, pb.Value(raw_zstd=zstd.compress(b"x" * MESSAGE)))
    before = peak_bytes(server)
    said = put(stub, key, pb.Value(raw_zstd=bomb))
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "VALUE_TOO_LARGE")
    for small in (100_000, MESSAGE):
        said = put(stub, key, pb.Value(raw_zstd=lying(bomb, small)))
        assert isinstance(said, Refusal)
        assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VALUE")
        said = upload(stub, key, pb.Value(raw_zstd=lying(bomb, small)), small)
        assert isinstance(said, Refusal)
        assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VALUE")
    said = upload(stub, key, pb.Value(raw_zstd=bomb), 2**30)
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "VALUE_TOO_LARGE")
    assert peak_bytes(server) - before < 16 * MESSAGE


def test_a_frame_that_needs_a_wide_window_is_refused(stub: Any, key: str) -> None:
    frame = zstd.compress(bytes(range(256)) * (LARGEST // 256), options=WIDE)
    said = upload(stub, key, pb.Value(raw_zstd=frame), LARGEST)
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VALUE")
    assert "window" in said.message


def test_a_frame_is_as_large_as_its_content(stub: Any, key: str) -> None:
    said = put(stub, key, pb.Value(raw_zstd=zstd.compress(b"x" * (MESSAGE + 1))))
    assert isinstance(said, Refusal)
    assert (said.reason, said.metadata) == (
        "VALUE_NEEDS_CHUNKS",
        {"size": str(MESSAGE + 1), "limit": str(MESSAGE)},
    )
    said = put(stub, key, pb.Value(raw_zstd=zstd.compress(b"x" * (LARGEST + 1))))
    assert isinstance(said, Refusal)
    assert said.reason == "VALUE_TOO_LARGE"
