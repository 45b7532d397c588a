"""Values in chunks, of stubs alone, at the served binary and in a server whose parts are at hand."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import threading
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from kinds import KEEPING, write_config
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server import chunks
from neardict_server.app import serving
from neardict_server.backends.memory import MemoryBackend
from neardict_server.config import BackendConfig, Config
from served import Served
from waiting import DEADLINE_SECONDS
from wire import Refusal, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis_server import RedisServer

SECONDS = DEADLINE_SECONDS
MIB = 1024 * 1024
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
MESSAGE = 64 * 1024
LARGEST = 16 * 1024 * 1024
LIMITS = {
    "NEARDICT_LIMITS__MAX_VALUE_BYTES": str(LARGEST),
    "NEARDICT_LIMITS__MAX_MESSAGE_VALUE_BYTES": str(MESSAGE),
}
DOMAIN = "large"
# Characters of 1 to 4 bytes, so that chunks of any size split some.
TEXT = '"' + "aé€𝄞" * 30_000 + '"'


@pytest.fixture(scope="module", params=[pytest.param(kind, id=kind) for kind in KEEPING])
def stub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("chunks")
    config = write_config(folder, request.param, redis)
    with (
        Served("--config", config, "--data", folder / "data", env=LIMITS) as server,
        grpc.insecure_channel(server.address) as channel,  # with the limits that gRPC has by default
    ):
        yield storage_pb2_grpc.StorageServiceStub(channel)


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def head(key: str, size: int, *, raw: bool = False, **more: Any) -> pb.WriteValueRequest:
    value = pb.Value(raw=b"") if raw else pb.Value(json="")
    request = pb.SetValueRequest(domain=DOMAIN, key=key, value=value, **more)
    return pb.WriteValueRequest(head=pb.WriteValueHead(request=request, size=size))


def parts(
    key: str, value: str | bytes, size: int = 50_000, *, declared: int | None = None, **more: Any
) -> Iterator[pb.WriteValueRequest]:
    data = value.encode() if isinstance(value, str) else value
    yield head(key, len(data) if declared is None else declared, raw=isinstance(value, bytes), **more)
    for start in range(0, len(data), size):
        yield pb.WriteValueRequest(chunk=data[start : start + size])


def write(stub: Any, requests: Iterator[pb.WriteValueRequest]) -> pb.WriteValueResponse | Refusal:
    try:
        response: pb.WriteValueResponse = stub.WriteValue(requests, timeout=SECONDS)
    except grpc.RpcError as error:
        return refusal(error)
    return response


def read(stub: Any, key: str) -> tuple[pb.ReadValueHead, bytes]:
    return whole(list(stub.ReadValue(pb.ReadValueRequest(domain=DOMAIN, key=key), timeout=SECONDS)))


def whole(parts: list[pb.ReadValueResponse]) -> tuple[pb.ReadValueHead, bytes]:
    first, *others = parts
    assert first.WhichOneof("part") == "head"
    data = b"".join(part.chunk for part in others)
    assert len(data) == first.head.size
    return first.head, data


def found(stub: Any, key: str) -> bool:
    answer: pb.GetValueResponse = stub.GetValue(pb.GetValueRequest(domain=DOMAIN, key=key), timeout=SECONDS)
    return answer.found


@pytest.mark.parametrize("size", [49_999, 50_000, 50_001])
def test_text_comes_back_wherever_it_was_split(stub: Any, key: str, size: int) -> None:
    written = write(stub, parts(key, TEXT, size))
    assert isinstance(written, pb.WriteValueResponse)
    entry_head, data = read(stub, key)
    assert data.decode() == TEXT
    entry = entry_head.answer.entry
    assert entry_head.answer.found
    assert (entry.key, entry.revision, entry.value) == (key, written.revision, pb.Value(json=""))
    assert entry_head.answer.domain_revision >= written.revision


def test_bytes_of_the_largest_size_come_back(stub: Any, key: str) -> None:
    value = bytes(range(256)) * (LARGEST // 256)
    assert isinstance(write(stub, parts(key, value)), pb.WriteValueResponse)
    entry_head, data = read(stub, key)
    assert data == value
    assert entry_head.answer.entry.value == pb.Value(raw=b"")


def test_small_and_absent_values_can_be_read_in_chunks_too(stub: Any, key: str) -> None:
    assert read(stub, key)[0].answer.found is False
    assert isinstance(write(stub, parts(key, "1")), pb.WriteValueResponse)
    assert read(stub, key)[1] == b"1"
    assert found(stub, key)


def test_a_value_that_does_not_fit_in_a_message_is_refused_there_with_its_reason(stub: Any, key: str) -> None:
    fits = pb.SetValueRequest(domain=DOMAIN, key=key, value=pb.Value(raw=b"x" * MESSAGE))
    stub.SetValue(fits, timeout=SECONDS)
    assert found(stub, key)
    with pytest.raises(grpc.RpcError) as caught:
        stub.SetValue(
            pb.SetValueRequest(domain=DOMAIN, key=key, value=pb.Value(raw=b"x" * (MESSAGE + 1))),
            timeout=SECONDS,
        )
    said = refusal(caught.value)
    assert (said.code, said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "VALUE_NEEDS_CHUNKS")
    assert said.metadata == {"size": str(MESSAGE + 1), "limit": str(MESSAGE)}
    assert isinstance(write(stub, parts(key, b"x" * (MESSAGE + 1))), pb.WriteValueResponse)
    with pytest.raises(grpc.RpcError) as caught:
        found(stub, key)
    assert refusal(caught.value).reason == "VALUE_NEEDS_CHUNKS"


def test_a_listing_names_what_does_not_fit_in_it_and_its_messages_are_bounded(stub: Any) -> None:
    domain = uuid.uuid4().hex
    small = {f"small {number}": b"x" * (MESSAGE - number) for number in range(8)}
    for key, value in small.items():
        stub.SetValue(pb.SetValueRequest(domain=domain, key=key, value=pb.Value(raw=value)), timeout=SECONDS)
    for key in ("large 1", "large 2"):
        requests = parts(key, TEXT)
        first = next(requests)
        first.head.request.domain = domain
        stub.WriteValue(iter([first, *requests]), timeout=SECONDS)
    request = pb.AllKeysRequest(domain=domain, include_entries=True)
    pages = list(stub.AllKeys(request, timeout=SECONDS))
    assert sorted(key for page in pages for key in page.large_keys) == ["large 1", "large 2"]
    assert {entry.key: entry.value.raw for page in pages for entry in page.entries} == small
    assert max(page.ByteSize() for page in pages) <= MESSAGE + 64 * 1024
    keys = [key for page in stub.AllKeys(pb.AllKeysRequest(domain=domain)) for key in page.keys]
    assert sorted(keys) == sorted(["large 1", "large 2", *small])


def test_conditions_and_times_to_live_hold(stub: Any, key: str) -> None:
    written = write(stub, parts(key, TEXT, if_absent=True))
    assert isinstance(written, pb.WriteValueResponse)
    again = write(stub, parts(key, TEXT, if_absent=True))
    assert isinstance(again, Refusal)
    assert (again.code, again.metadata) == (
        grpc.StatusCode.ABORTED,
        {"current_revision": str(written.revision)},
    )
    assert isinstance(write(stub, parts(key, TEXT, if_revision=written.revision)), pb.WriteValueResponse)


def test_a_repeated_request_id_writes_once(stub: Any, key: str) -> None:
    name = uuid.uuid4().hex
    first, second = (write(stub, parts(key, TEXT, request_id=name)) for _ in range(2))
    assert isinstance(first, pb.WriteValueResponse)
    assert first == second


def test_a_reader_gets_one_whole_value_though_others_are_written_meanwhile(stub: Any, key: str) -> None:
    old, new = b"o" * LARGEST, b"n" * LARGEST
    write(stub, parts(key, old))
    reading = stub.ReadValue(pb.ReadValueRequest(domain=DOMAIN, key=key), timeout=SECONDS)
    begun = [next(reading), next(reading)]
    # The old one is larger than all windows between here and the server, so that it is still sending.
    assert isinstance(write(stub, parts(key, new)), pb.WriteValueResponse)
    assert whole([*begun, *reading])[1] == old
    assert read(stub, key)[1] == new


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        (lambda key: iter(()), "INVALID_REQUEST"),
        (lambda key: iter([pb.WriteValueRequest(chunk=b"1")]), "INVALID_REQUEST"),
        (lambda key: iter([pb.WriteValueRequest()]), "INVALID_REQUEST"),
        (lambda key: iter([head(key, 1), head(key, 1)]), "INVALID_REQUEST"),
        (lambda key: iter([head(key, 1), pb.WriteValueRequest()]), "INVALID_REQUEST"),
        (lambda key: parts(key, "12", declared=3), "INVALID_REQUEST"),
        (lambda key: parts(key, "12", declared=1), "INVALID_REQUEST"),
        (lambda key: parts(key, "12", declared=0), "INVALID_REQUEST"),
        (lambda key: parts(key, ""), "INVALID_VALUE"),
        (lambda key: parts(key, TEXT[:-1]), "INVALID_VALUE"),
        (lambda key: iter([head(key, 2), pb.WriteValueRequest(chunk=b'"\xff')]), "INVALID_VALUE"),
        (lambda key: parts(key, "1", if_revision=0), "INVALID_REQUEST"),
        (lambda key: parts("", "1"), "INVALID_KEY"),
        (lambda key: parts(key, "1", request_id="x" * 65), "INVALID_REQUEST"),
    ],
)
def test_what_does_not_add_up_is_refused_and_stores_nothing(
    stub: Any, key: str, requests: Any, reason: str
) -> None:
    said = write(stub, requests(key))
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert not found(stub, key)


def test_a_head_with_a_value_or_without_a_kind_is_refused(stub: Any, key: str) -> None:
    for value in (pb.Value(), pb.Value(json="1"), pb.Value(raw=b"1")):
        request = pb.SetValueRequest(domain=DOMAIN, key=key, value=value)
        first = pb.WriteValueRequest(head=pb.WriteValueHead(request=request, size=1))
        said = write(stub, iter([first, pb.WriteValueRequest(chunk=b"1")]))
        assert isinstance(said, Refusal)
        assert (said.code, said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VALUE")


def test_a_value_over_the_limit_is_refused_before_it_is_sent(stub: Any, key: str) -> None:
    never = threading.Event()

    def requests() -> Iterator[pb.WriteValueRequest]:
        yield head(key, LARGEST + 1)
        never.wait(SECONDS)

    try:
        said = write(stub, requests())
    finally:
        never.set()
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "VALUE_TOO_LARGE")
    assert said.metadata == {"size": str(LARGEST + 1), "limit": str(LARGEST)}


def test_an_upload_that_is_cancelled_or_out_of_time_stores_nothing(stub: Any, key: str) -> None:
    sent, going_on = threading.Event(), threading.Event()

    def requests() -> Iterator[pb.WriteValueRequest]:
        *most, last = parts(key, TEXT)
        yield from most
        sent.set()
        going_on.wait(SECONDS)
        yield last

    call = stub.WriteValue.future(requests(), timeout=SECONDS)
    assert sent.wait(SECONDS)
    call.cancel()
    going_on.set()
    assert not found(stub, key)
    going_on.clear()
    with pytest.raises(grpc.RpcError) as caught:
        stub.WriteValue(requests(), timeout=0.5)
    going_on.set()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert not found(stub, key)


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_a_server_that_is_killed_in_an_upload_has_the_value_of_before(
    kind: str, key: str, tmp_path: Any, redis: RedisServer
) -> None:
    arguments = ("--config", write_config(tmp_path, kind, redis), "--data", tmp_path / "data")
    sent, going_on = threading.Event(), threading.Event()

    def requests() -> Iterator[pb.WriteValueRequest]:
        *most, last = parts(key, TEXT)
        yield from most
        sent.set()
        going_on.wait(SECONDS)
        yield last

    with (
        Served(*arguments, env=LIMITS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        storage = storage_pb2_grpc.StorageServiceStub(channel)
        before = write(storage, parts(key, TEXT[::-1]))
        assert isinstance(before, pb.WriteValueResponse)
        call: Any = storage.WriteValue.future(requests(), timeout=SECONDS)
        assert sent.wait(SECONDS)
        server.kill()
        going_on.set()
        assert call.exception(SECONDS).code() == grpc.StatusCode.UNAVAILABLE
    with (
        Served(*arguments, env=LIMITS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        entry_head, data = read(storage_pb2_grpc.StorageServiceStub(channel), key)
        assert (entry_head.answer.entry.revision, data.decode()) == (before.revision, TEXT[::-1])


def config(**limits: int) -> Config:
    backends = {"m": BackendConfig(implementation="memory")}
    return Config.model_validate({"listen": "127.0.0.1:0", "backends": backends, "limits": limits})


async def test_memory_for_uploads_of_a_connection_is_bounded() -> None:
    begun, release = asyncio.Semaphore(0), asyncio.Event()
    async with (
        serving(config(max_value_bytes=1_000_000, max_connection_bytes_in_flight=MIB)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        grpc.aio.insecure_channel(server.address, OWN_CONNECTION) as other_channel,
    ):
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        other: Any = storage_pb2_grpc.StorageServiceStub(other_channel)

        async def slow() -> AsyncIterator[pb.WriteValueRequest]:
            first, *others = parts("slow", b"s" * 1_000_000)
            yield first
            # Asked for once the head has gone out, before anything of the other upload.
            begun.release()
            await release.wait()
            for part in others:
                yield part

        first = [asyncio.create_task(_await(stub, slow())) for _ in range(2)]
        await begun.acquire()
        await begun.acquire()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.WriteValue(parts("other", b"o"), timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await other.WriteValue(parts("other", b"o" * 1_000_000), timeout=SECONDS)
        release.set()
        await asyncio.gather(*first)
        await stub.WriteValue(parts("other", b"o"), timeout=SECONDS)


async def test_an_upload_that_stalls_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "STALL_SECONDS", 0.1)
    async with (
        serving(config()) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)

        async def stalled() -> AsyncIterator[pb.WriteValueRequest]:
            yield head("k", 10)
            await asyncio.Event().wait()

        call = stub.WriteValue(stalled(), timeout=SECONDS)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        said = refusal(caught.value)
        assert (said.code, said.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_STALLED")


async def test_a_server_that_stops_lets_an_upload_end_and_refuses_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    stored = asyncio.Event()
    original = MemoryBackend.set_value

    async def set_value(self: MemoryBackend, *args: Any, **more: Any) -> Any:
        stored.set()
        return await original(self, *args, **more)

    monkeypatch.setattr(MemoryBackend, "set_value", set_value)

    async def requests() -> AsyncIterator[pb.WriteValueRequest]:
        for part in parts("k", "12", 1):
            yield part
            begun.set()
            await go_on.wait()

    serving_now = serving(config())
    server = await serving_now.__aenter__()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        upload = asyncio.ensure_future(_await(stub, requests()))
        await begun.wait()
        await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=SECONDS)  # so the head has come too
        stopping = asyncio.create_task(serving_now.__aexit__(None, None, None))
        async with asyncio.timeout(SECONDS):
            while not await refuses(stub):
                await asyncio.sleep(0.005)
        go_on.set()
        assert (await upload).revision > 0
        await stopping
    assert stored.is_set()


async def refuses(stub: Any) -> bool:
    try:
        await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return refusal(error).reason == "DRAINING"
    return False


async def _await(stub: Any, requests: Any) -> pb.WriteValueResponse:
    response: pb.WriteValueResponse = await stub.WriteValue(requests, timeout=SECONDS)
    return response
