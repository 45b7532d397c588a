"""Many watchers of a domain, and many domains on a stream: each is told of each change."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHERS = 500
DOMAINS = 5_000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with Served("--data", tmp_path) as served:
        yield served.address


async def write(stub: Any, domain: str, key: str) -> tuple[str, str, int]:
    value = pb.Value(json="1")
    revision = (await stub.SetValue(pb.SetValueRequest(domain=domain, key=key, value=value))).revision
    return domain, key, revision


async def answered(call: Any, domains: set[str]) -> None:
    """Returns when the subscriptions to all these have begun; heartbeats are passed over."""
    waiting = set(domains)
    while waiting:
        waiting.discard((await call.read()).subscribed.domain)


async def next_changes(call: Any, count: int) -> list[tuple[str, str, int]]:
    """Returns the next changes that the stream brings, in their order; heartbeats are passed over."""
    changes: list[tuple[str, str, int]] = []
    while len(changes) < count:
        message = (await call.read()).changes
        changes += [(message.domain, change.key, change.revision) for change in message.changes]
    return changes


async def test_five_hundred_watchers_of_a_domain_are_told_of_every_change_in_order(address: str) -> None:
    async with AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(WATCHERS):
            channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
            stubs.append(storage_pb2_grpc.StorageServiceStub(await stack.enter_async_context(channel)))
        calls = [stub.Watch() for stub in stubs]
        for call in calls:
            await call.write(pb.WatchRequest(subscribe=pb.Subscribe(domain="shared")))
            await answered(call, {"shared"})
        # From two sides, so that messages to some have both changes, and to others one.
        written = await asyncio.gather(
            *(write(stub, "shared", key) for stub, key in zip(stubs[:2], "ab", strict=True))
        )
        written.append(await write(stubs[0], "shared", "c"))
        expected = sorted(written, key=lambda change: change[2])
        for told in await asyncio.gather(*(next_changes(call, 3) for call in calls)):
            assert told == expected


async def test_one_stream_is_told_of_the_changes_of_five_thousand_domains(address: str) -> None:
    domains = [f"domain_{number}" for number in range(DOMAINS)]
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        call = stub.Watch()
        for domain in domains:
            await call.write(pb.WatchRequest(subscribe=pb.Subscribe(domain=domain)))
        await answered(call, set(domains))
        written = await asyncio.gather(*(write(stub, domain, "k") for domain in domains[::50]))
        assert set(await next_changes(call, len(written))) == set(written)
