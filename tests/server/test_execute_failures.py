"""Operations of Execute that fail, alone, with the status of their calls; and backends that are at fault."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from executing import Execution, delete, failure, get, put
from gated_backend import GatedBackend, gated_server
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.backends import base
from neardict_server.backends.null import NullBackend
from neardict_server.config import BackendConfig, RouteConfig
from neardict_server.errors import (
    BackendUnavailableError,
    CorruptEntryError,
    StorageFullError,
)
from neardict_server.execution.outbox import FIRST_BATCH
from wire import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

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
            results = await stream.run(*[get("k", domain="bad")] * FIRST_BATCH, get("k", domain="good"))
            assert {failure(result).reason for result in results[:FIRST_BATCH]} == {"INTERNAL"}
            assert results[FIRST_BATCH].HasField("get_value")
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
