"""Execute, sentence by sentence: order, results, failures of operations, and of the stream."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from executing import Execution, delete, failure, get, put
from gated_backend import GatedBackend, gated_server
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.app import serving
from neardict_server.backends import base
from neardict_server.backends.null import NullBackend
from neardict_server.config import BackendConfig, Config, RouteConfig
from neardict_server.errors import (
    BackendUnavailableError,
    CorruptEntryError,
    StorageFullError,
)
from wire import DEADLINE_SECONDS, SERVICE, refusal, text_field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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


FAILURES: dict[str, pb.Operation] = {
    "no domain": get("k", domain=""),
    "a domain that is too long": put("k", domain="d" * 256),
    "a domain with NUL": delete("k", domain="d\0"),
    "no key": get(""),
    "a key that is too long": put("k" * 1025),
    "a key with NUL": delete("\0"),
    "no route": get("k", domain="elsewhere"),
    "no route for a write": put("k", domain="elsewhere"),
    "no value": pb.Operation(set_value=pb.SetValueRequest(domain="d", key="k")),
    "a value that is too large": put("k", b"x" * 1001),
    "no JSON": put("k", "{planted"),
    "JSON that is too deep": put("k", "[" * 65 + "]" * 65),
    "a request id that is too long": put("k", request_id="i" * 65),
    "a condition that no entry meets": put("k", if_revision=0),
    "a condition that does not hold": put("there", if_absent=True),
    "a deletion's condition that does not hold": delete("there", if_revision=1),
    "a ttl that is none": put("k", ttl={"seconds": -1}),
    "a ttl where there is none": put("k", domain="null", ttl={"seconds": 1}),
    "a corrupt entry": get("corrupt"),
    "a backend that is down": put("down"),
    "storage that is full": put("full"),
    "an error that nobody foresaw": delete("unforeseen"),
}
RAISED: dict[str, Exception] = {
    "corrupt": CorruptEntryError("the entry is damaged", file="f"),
    "down": BackendUnavailableError("the engine cannot be reached"),
    "full": StorageFullError("no room"),
    "unforeseen": LookupError("planted"),
}


def raise_for(key: str) -> None:
    if key in RAISED:
        raise RAISED[key]


@pytest.mark.parametrize("operation", FAILURES.values(), ids=FAILURES.keys())
async def test_an_operation_fails_alone_with_the_status_of_its_call(
    operation: pb.Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "backends": {
            "m": BackendConfig(implementation="memory"),
            "null": BackendConfig(implementation="null"),
        },
        "routes": [RouteConfig(domain="d", backend="m"), RouteConfig(domain="null", backend="null")],
        "default": None,
        "limits": {"max_value_bytes": 1000},
    }
    monkeypatch.setattr(NullBackend, "capabilities", frozenset())
    methods = {"get_value": "GetValue", "set_value": "SetValue", "delete_key": "DeleteKey"}
    which = operation.WhichOneof("operation")
    assert which is not None
    async with gated_server(monkeypatch, **settings) as (backend, channel), Execution(channel) as stream:
        await stream.run(put("there"))
        backend.meet = raise_for
        call: Any = getattr(storage_pb2_grpc.StorageServiceStub(channel), methods[which])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(getattr(operation, which))
        before, failed, after = await stream.run(get("there"), operation, get("there"))
        assert failure(failed) == refusal(caught.value)
        assert failure(failed).domain == "neardict"
        assert "planted" not in failed.error.message
        assert before.get_value.found
        assert after.get_value.found
        assert await stream.end() is None


async def test_an_unforeseen_error_of_a_whole_batch_is_logged_once_and_fails_its_operations_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def execute(domain: str, operations: list[base.Operation]) -> list[base.Outcome]:
        if domain == "bad":
            raise LookupError("planted")
        return [base.Lookup(None, 1) for _ in operations]

    monkeypatch.setattr(GatedBackend, "execute", staticmethod(execute), raising=False)
    with caplog.at_level(logging.DEBUG):
        async with gated_server(monkeypatch) as (_, channel), Execution(channel) as stream:
            results = await stream.run(*[get("k", domain="bad")] * 20, get("k", domain="good"))
            assert {failure(result).reason for result in results[:20]} == {"INTERNAL"}
            assert results[20].HasField("get_value")
            assert await stream.end() is None
    assert caplog.text.count("Execute failed unexpectedly: LookupError at ") == 1
    assert "planted" not in caplog.text


WORDLESS: dict[str, Callable[[], Any]] = {
    "an entry that is not text": lambda: base.Lookup(base.Entry("k", "\ud800", 1), 1),
    "a revision that is none": lambda: base.Written(-1),
    "nothing": lambda: None,
}


@pytest.mark.parametrize("outcome", WORDLESS.values(), ids=WORDLESS.keys())
async def test_what_cannot_be_worded_fails_alone(
    outcome: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def execute(domain: str, operations: list[base.Operation]) -> list[Any]:
        return [outcome() if operation.key == "bad" else base.Lookup(None, 1) for operation in operations]

    monkeypatch.setattr(GatedBackend, "execute", staticmethod(execute), raising=False)
    async with gated_server(monkeypatch) as (_, channel), Execution(channel) as stream:
        before, bad, after = await stream.run(get("k"), get("bad"), get("k"))
        assert (before.HasField("get_value"), after.HasField("get_value")) == (True, True)
        assert (failure(bad).code, failure(bad).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert await stream.end() is None


async def test_a_backend_that_is_broken_beyond_that_ends_the_stream_and_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def execute(domain: str, operations: list[base.Operation]) -> list[Any]:
        return [base.Lookup(base.Entry("k", 7, 1), 1) for _ in operations]  # type: ignore[arg-type]  # the fault

    monkeypatch.setattr(GatedBackend, "execute", staticmethod(execute), raising=False)
    async with gated_server(monkeypatch) as (_, channel), Execution(channel) as stream:
        await stream.send(get("k"))
        ended = await stream.ended()
    assert ended is not None
    assert (ended.code, ended.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_a_backend_that_gives_up_as_if_it_was_cancelled_fails_its_operations_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cancel(key: str) -> None:
        if key == "gives up":
            raise asyncio.CancelledError

    async with gated_server(monkeypatch) as (backend, channel), Execution(channel) as stream:
        backend.meet = cancel
        (gone,) = await stream.run(get("gives up"))
        (after,) = await stream.run(get("k"))
        assert failure(gone).code == grpc.StatusCode.INTERNAL
        assert after.HasField("get_value")
        assert await stream.end() is None


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
                await call
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
