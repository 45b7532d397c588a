"""Writes by Execute and those who watch: leases hold writes up, and changes come no later than results."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from executing import Execution, delete, get, put
from kinds import KEEPING, write_config
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served
from wire import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis_server import RedisServer


class Watching:
    """A raw Watch stream, and every change that it has told."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        self.call = stub.Watch()
        self.changes: list[tuple[str, int]] = []
        self._pings = 0

    async def subscribe(self, domain: str, *, lease: bool = False) -> None:
        await self.call.write(pb.WatchRequest(subscribe=pb.Subscribe(domain=domain, lease=lease)))
        await self.until("subscribed")

    async def until(self, which: str) -> Any:
        """Reads up to the next message of the kind and returns that."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                response = await self.call.read()
                assert not response.HasField("reset"), response
                self.changes += [(change.key, change.revision) for change in response.changes.changes]
                if response.WhichOneof("response") == which:
                    return getattr(response, which)

    async def catch_up(self) -> None:
        """Reads all that was told before now."""
        self._pings += 1
        await self.call.write(pb.WatchRequest(ping=pb.Ping(number=self._pings)))
        while (await self.until("heartbeat")).ping != self._pings:
            pass


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    with Served("--data", tmp_path) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield channel


@pytest.mark.parametrize("kind", KEEPING)
async def test_who_watches_is_told_each_change_by_the_time_of_its_result(
    kind: str, tmp_path: Path, redis: RedisServer
) -> None:
    config = write_config(tmp_path, kind, redis)
    domain = f"execute.{tmp_path.name}"
    with Served("--config", config, "--data", tmp_path / "data") as server:
        async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as stream:
            watching = Watching(channel)
            await watching.subscribe(domain)
            told: dict[str, int] = {}
            for turn in range(10):
                operations = [put(f"k{number}", f"{turn}", domain=domain) for number in range(20)]
                operations += [delete(f"k{turn}", domain=domain), get("k0", domain=domain)]
                results = await stream.run(*operations)
                expected = {f"k{number}": results[number].set_value.revision for number in range(20)}
                expected[f"k{turn}"] = results[20].delete_key.revision
                async with asyncio.timeout(20):
                    await watching.catch_up()
                    told.update(watching.changes)
                    # From Redis the service hears of its own writes as of others', a moment later.
                    while kind == "redis" and told != expected:
                        await watching.catch_up()
                        told.update(watching.changes)
                # Of several changes to a key it may tell the last alone.
                assert told == expected
            revisions = [revision for _, revision in watching.changes]
            assert revisions == sorted(revisions)
            watching.call.cancel()


async def test_a_write_waits_for_who_holds_a_lease_and_reads_and_other_domains_do_not(
    channel: grpc.aio.Channel,
) -> None:
    async with Execution(channel) as stream, Execution(channel) as reader:
        await stream.run(put("k", '"old"'))
        holder = Watching(channel)
        await holder.subscribe("d", lease=True)
        written = await stream.send(put("k", '"new"'), put("other"))
        revokes = [await holder.until("revoke") for _ in range(2)]
        assert {revoke.key for revoke in revokes} == {"k", "other"}
        # Another domain of the stream goes on, and what others read is what the holder may still serve.
        await stream.run(put("k", domain="free"))
        (found,) = await reader.run(get("k"))
        assert found.get_value.entry.value.json == '"old"'
        assert not set(written) & set(stream.results)
        for revoke in revokes:
            await holder.call.write(pb.WatchRequest(revoked=pb.Revoked(number=revoke.number)))
        results = await stream.of(written)
        assert all(result.HasField("set_value") for result in results)
        for _ in revokes:
            await holder.until("release")
        assert holder.changes == [
            (key, result.set_value.revision) for key, result in zip(["k", "other"], results, strict=True)
        ]
        holder.call.cancel()


async def test_a_write_whose_holder_says_nothing_is_done_when_his_lease_is_over(
    channel: grpc.aio.Channel,
) -> None:
    async with Execution(channel) as stream:
        holder = Watching(channel)
        await holder.subscribe("d", lease=True)
        (result,) = await stream.run(put("k"))
        assert result.HasField("set_value")
        holder.call.cancel()


async def test_a_client_that_leaves_while_its_write_waits_for_a_lease_releases_the_key(
    channel: grpc.aio.Channel,
) -> None:
    holder = Watching(channel)
    await holder.subscribe("d", lease=True)
    async with Execution(channel) as stream:
        await stream.send(put("k"))
        revoke = await holder.until("revoke")
    assert (await holder.until("release")).number == revoke.number
    assert holder.changes == []
    async with Execution(channel) as another:
        (found,) = await another.run(get("k"))
        assert not found.get_value.found
    holder.call.cancel()
