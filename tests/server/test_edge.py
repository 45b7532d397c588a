"""The edge, in a server whose backend fails in ways that ours do not."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.app import serving
from neardict_server.backends import base
from neardict_server.backends.memory import MemoryBackend
from neardict_server.config import BackendConfig, Config
from neardict_server.errors import CorruptEntryError, StorageError
from waiting import DEADLINE_SECONDS
from wire import Refusal, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = pb.GetValueRequest(domain="d", key="k")


class ForeignError(StorageError):
    reason = "FOREIGN"


def memory(**settings: Any) -> Config:
    backends = {"m": BackendConfig(implementation="memory")}
    return Config.model_validate({"listen": "127.0.0.1:0", "backends": backends} | settings)


@asynccontextmanager
async def memory_server(**settings: Any) -> AsyncIterator[Any]:
    async with (
        serving(memory(**settings)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield storage_pb2_grpc.StorageServiceStub(channel)


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def test_an_unforeseen_error_is_internal_and_tells_its_place_to_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def get_value(self: MemoryBackend, domain: str, key: str) -> base.Lookup:
        raise LookupError("planted-value")

    monkeypatch.setattr(MemoryBackend, "get_value", get_value)
    with caplog.at_level(logging.DEBUG):
        async with memory_server() as stub:
            answer = await refused(stub.GetValue(GET))
            assert (answer.code, answer.domain, answer.reason) == (
                grpc.StatusCode.INTERNAL,
                "neardict",
                "INTERNAL",
            )
            # And the server goes on.
            await stub.SetValue(pb.SetValueRequest(domain="d", key="k", value=pb.Value(json="1")))
    assert "LookupError at " in caplog.text
    assert "test_edge.py:" in caplog.text
    assert "planted" not in answer.message + caplog.text


async def test_an_error_of_a_kind_that_a_backend_made_up_keeps_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def get_value(self: MemoryBackend, domain: str, key: str) -> base.Lookup:
        raise ForeignError("something of its own", fact=7)

    monkeypatch.setattr(MemoryBackend, "get_value", get_value)
    async with memory_server() as stub:
        answer = await refused(stub.GetValue(GET))
    assert (answer.code, answer.reason, answer.metadata) == (
        grpc.StatusCode.INTERNAL,
        "FOREIGN",
        {"fact": "7"},
    )
    assert answer.message == "something of its own"


async def test_a_listing_that_breaks_off_sends_what_it_has_and_then_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def all_keys(
        self: MemoryBackend, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        yield base.Page(1, keys=["a"])
        raise CorruptEntryError("page two")

    monkeypatch.setattr(MemoryBackend, "all_keys", all_keys)
    async with memory_server() as stub:
        listing = stub.AllKeys(pb.AllKeysRequest(domain="d"))
        assert list((await anext(aiter(listing))).keys) == ["a"]
        answer = await refused(anext(aiter(listing)))
    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_ENTRY")


async def test_a_listing_that_is_cancelled_is_closed_and_not_left_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = asyncio.Event()

    async def all_keys(
        self: MemoryBackend, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        try:
            while True:
                yield base.Page(1, keys=["k" * 1000] * 100)
        finally:
            closed.set()

    monkeypatch.setattr(MemoryBackend, "all_keys", all_keys)
    async with asyncio.timeout(DEADLINE_SECONDS), memory_server() as stub:
        listing = stub.AllKeys(pb.AllKeysRequest(domain="d"))
        await anext(aiter(listing))
        listing.cancel()
        await closed.wait()


async def test_a_caller_whose_deadline_passes_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled = asyncio.Event()

    async def get_value(self: MemoryBackend, domain: str, key: str) -> base.Lookup:
        try:
            await asyncio.sleep(DEADLINE_SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    monkeypatch.setattr(MemoryBackend, "get_value", get_value)
    async with asyncio.timeout(DEADLINE_SECONDS), memory_server() as stub:
        answer = await refused(stub.GetValue(GET, timeout=0.2))
        assert answer.code == grpc.StatusCode.DEADLINE_EXCEEDED
        await cancelled.wait()


async def test_without_a_grace_calls_under_way_are_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def get_value(self: MemoryBackend, domain: str, key: str) -> base.Lookup:
        begun.set()
        await asyncio.sleep(2 * DEADLINE_SECONDS)
        raise AssertionError

    monkeypatch.setattr(MemoryBackend, "get_value", get_value)
    async with asyncio.timeout(DEADLINE_SECONDS), AsyncExitStack() as stack:
        async with serving(memory(shutdown_grace_seconds=0)) as server:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
            call = asyncio.ensure_future(refused(stub.GetValue(GET)))
            await begun.wait()
        assert (await call).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_errors_with_the_longest_names_fit_in_the_trailers() -> None:
    async with memory_server(routes=[{"domain": "only this", "backend": "m"}]) as stub:
        for domain in ("\x01" * 255, "\U0001f600" * 63, "%" * 255, "\u2028" * 85):
            answer = await refused(stub.GetValue(pb.GetValueRequest(domain=domain, key="k" * 1024)))
            assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_ROUTE")
            assert answer.metadata == {"domain": domain}
