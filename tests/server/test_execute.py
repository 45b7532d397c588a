"""Execute, sentence by sentence: order, results, and the end of the stream."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from executing import Execution, delete, get, open_streams, put
from gated_backend import gated_server
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.app import serving
from neardict_server.config import BackendConfig, Config
from wire import DEADLINE_SECONDS, SERVICE, refusal, text_field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SEED = 20261125


@asynccontextmanager
async def memory_server(**settings: Any) -> AsyncIterator[grpc.aio.Channel]:
    backends = {"m": BackendConfig(implementation="memory")}
    config = Config.model_validate({"listen": "127.0.0.1:0", "backends": backends} | settings)
    async with (
        serving(config) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


async def test_operations_of_a_domain_take_effect_in_the_order_in_which_they_were_sent() -> None:
    randomness = random.Random(SEED)
    expected: dict[tuple[str, str], str] = {}
    asked: list[tuple[pb.Operation, str | bool | None]] = []
    for step in range(3000):
        domain, key = randomness.choice("abc"), randomness.choice(["x", "y"])
        draw = randomness.random()
        if draw < 0.4:
            expected[domain, key] = str(step)
            asked.append((put(key, str(step), domain=domain), None))
        elif draw < 0.8:
            asked.append((get(key, domain=domain), expected.get((domain, key))))
        else:
            asked.append((delete(key, domain=domain), expected.pop((domain, key), None) is not None))
    async with memory_server() as channel, Execution(channel) as stream:
        numbers: list[int] = []
        rest = [operation for operation, _ in asked]
        while rest:
            size = randomness.choice([1, 2, 7, 300])
            numbers += await stream.send(*rest[:size])
            del rest[:size]
        results = await stream.of(numbers)
    revisions: dict[str, int] = {}
    for (operation, answer), result in zip(asked, results, strict=True):
        which = result.WhichOneof("result")
        assert which == operation.WhichOneof("operation")
        if which == "get_value":
            assert result.get_value.found == (answer is not None)
            assert result.get_value.entry.value.json == (answer or "")
            continue
        if which == "delete_key":
            assert result.delete_key.existed == answer
        written = getattr(result, which)
        domain = getattr(operation, which).domain
        assert written.revision >= revisions.get(domain, 0), "a later write has an earlier revision"
        revisions[domain] = written.revision


async def test_each_operation_says_what_its_call_says() -> None:
    async with memory_server() as channel, Execution(channel) as stream:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        written, found, missing, deleted, gone = await stream.run(
            put("k", '{"a": 1}'), get("k"), get("absent"), delete("k"), delete("k")
        )
        assert missing.get_value == pb.GetValueResponse(domain_revision=written.set_value.revision)
        assert found.get_value.entry.value.json == '{"a": 1}'
        assert found.get_value.entry.revision == found.get_value.domain_revision == written.set_value.revision
        assert (deleted.delete_key.existed, gone.delete_key.existed) == (True, False)
        assert deleted.delete_key.revision == gone.delete_key.revision > written.set_value.revision
        set_value = put("kept", b"\0\xff", request_id="once").set_value
        set_value.ttl.seconds = 100
        (first,) = await stream.run(pb.Operation(set_value=set_value))
        # The call is the retry of the operation.
        assert await stub.SetValue(set_value) == first.set_value
        assert first.set_value.HasField("expire_time")


async def test_when_the_client_ends_its_side_all_results_come_and_then_ok(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.hold("d")
        numbers = await stream.send(*(put(f"k{number}") for number in range(1000)))
        await stream.call.done_writing()
        await backend.has_begun("d", "k0")
        backend.release("d")
        assert await stream.ended() is None
        assert sorted(stream.results) == numbers


async def test_a_stream_without_operations_ends_with_ok() -> None:
    async with memory_server() as channel, Execution(channel) as stream:
        await stream.send()
        assert await stream.end() is None
        assert not stream.results


async def until_nothing_is_read() -> None:
    """Returns when a stream of this test has met a breach: until then what is unanswered must stay so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not any(stream._reader.done() for stream in open_streams()):
            await asyncio.sleep(0.001)


BREACHES = {
    "without content": [pb.Operation(number=99)],
    "the number of one that is unanswered": [pb.Operation(number=2, get_value=get("k").get_value)],
    "a number twice in a request": [pb.Operation(number=99, get_value=get("k").get_value)] * 2,
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
async def test_a_breach_of_the_rules_ends_the_stream_after_the_results_of_what_came_before(
    breach: list[pb.Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.hold("d")
        numbers = await stream.send(put("a"), put("b"), put("c", domain="other"))
        await stream.of(numbers[2:])
        await stream.call.write(pb.ExecuteRequest(operations=breach))
        await backend.has_begun("d", "a")
        await until_nothing_is_read()
        backend.release("d")
        ended = await stream.ended()
        assert ended is not None
        assert (ended.code, ended.domain, ended.reason) == (INVALID, "neardict", "INVALID_REQUEST")
        assert set(stream.results) >= set(numbers)
        assert all(stream.results[number].HasField("set_value") for number in numbers)


async def test_a_number_may_be_used_again_as_soon_as_its_result_is_there() -> None:
    async with memory_server() as channel, Execution(channel) as stream:
        for _ in range(300):
            await stream.call.write(
                pb.ExecuteRequest(operations=[pb.Operation(number=7, get_value=get("k").get_value)])
            )
            await stream.of([7])
            stream.results.clear()
        assert await stream.end() is None


@pytest.mark.parametrize(
    "data",
    [b"\xff", text_field(1, text_field(2, text_field(1, b"\xff"))), text_field(1, b"\xff")],
    ids=["a tag that is none", "text that is not UTF-8", "an operation that is none"],
)
async def test_bytes_that_are_no_request_end_the_stream_after_the_results_of_what_came_before(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gated_server(monkeypatch) as (backend, channel):
        backend.hold("d")
        call: Any = channel.stream_stream(f"/{SERVICE}/Execute")()
        good = pb.ExecuteRequest(operations=[pb.Operation(number=1, set_value=put("k").set_value)])
        await call.write(good.SerializeToString())
        await backend.has_begun("d", "k")
        await call.write(data)
        backend.release("d")
        async with asyncio.timeout(DEADLINE_SECONDS):
            (result,) = pb.ExecuteResponse.FromString(await call.read()).results
            assert (result.number, result.HasField("set_value")) == (1, True)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
        answer = refusal(caught.value)
        assert (answer.code, answer.reason) == (INVALID, "INVALID_REQUEST")


async def test_random_bytes_end_the_stream_with_a_status_and_never_the_server() -> None:
    randomness = random.Random(SEED)
    async with memory_server() as channel:
        for _ in range(100):
            call: Any = channel.stream_stream(f"/{SERVICE}/Execute")()
            await call.write(randomness.randbytes(randomness.randrange(60)))
            await call.done_writing()
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await call.code() in (grpc.StatusCode.OK, INVALID)
        async with Execution(channel) as stream:
            (result,) = await stream.run(put("k"))
            assert result.HasField("set_value")
