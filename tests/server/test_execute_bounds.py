"""How much memory Execute takes of a real server for a client that sends and reads nothing."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from executing import Execution, failure, get, put
from served import Served
from wire import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from neardict.v1 import storage_pb2 as pb

MIB = 1024 * 1024
# Beside what the contract bounds: the responses and requests that gRPC has in its hands, and what the
# allocator keeps.
SLACK = 96 * MIB
# Far more than every bound.
VALUE_BYTES = 1_000_000
FLOOD = 1000
MANY = 100_000
# Long ones, so that requests that nobody takes do not all find room on the way.
KEYS = [letter * 1000 for letter in "ab"]


def resident(server: Served) -> int:
    """Returns the most memory that the process has ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    with Served("--data", tmp_path) as server:
        yield server


async def flood(stream: Execution, operations: list[pb.Operation], size: int) -> int:
    """Sends requests of so many operations until the service takes no more; returns how many it took."""
    for sent in range(0, len(operations), size):
        _, request = stream.number(operations[sent : sent + size])
        # What has not gone by then is held up by flow control.
        if not await stream.write(request, 2):
            return sent
    return len(operations)


async def still_serves(channel: grpc.aio.Channel) -> None:
    async with Execution(channel) as other:
        written, found = await other.run(put("k", domain="other"), get("k", domain="other"))
        assert written.HasField("set_value")
        assert found.get_value.found


async def test_large_results_that_nobody_reads(server: Served) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as writer:
        await writer.run(*(put(key, b"x" * VALUE_BYTES) for key in KEYS[:2]))
        before = resident(server)
        async with Execution(channel) as stream:
            gets = [get(KEYS[number % 2]) for number in range(MANY)]
            assert await flood(stream, gets, 100) < MANY, "nothing holds it up"
            await still_serves(channel)
            assert resident(server) - before < SLACK


async def test_large_results_of_very_many_domains_that_nobody_reads(server: Served) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as writer:
        for number in range(100):
            await writer.run(put(KEYS[0], b"x" * VALUE_BYTES, domain=f"d{number}"))
        before = resident(server)
        async with Execution(channel) as stream:
            gets = [get(KEYS[0], domain=f"d{number % 100}") for number in range(MANY)]
            assert await flood(stream, gets, 100) < MANY, "nothing holds it up"
            await still_serves(channel)
            assert resident(server) - before < SLACK


async def test_large_values_for_a_backend_that_has_stalled(server: Served, tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as stream:
        await stream.run(put("there"))
        before = resident(server)
        with contextlib.closing(
            sqlite3.connect(tmp_path / "neardict.sqlite3", isolation_level=None)
        ) as another:
            # The service waits for five seconds until it gives up.
            another.execute("BEGIN IMMEDIATE")
            taken = await flood(stream, [put("k", b"x" * VALUE_BYTES)] * FLOOD, 1)
            assert taken < FLOOD, "nothing holds it up"
            assert resident(server) - before < 64 * MIB + SLACK
            # Reads of other streams go on.
            async with Execution(channel) as other:
                (found,) = await other.run(get("there"))
                assert found.get_value.found
            another.execute("ROLLBACK")
        await still_serves(channel)
        # Once as requests, and once more on the way to the disk.
        assert resident(server) - before < 2 * 64 * MIB + SLACK
        assert await stream.end() is None
        assert len(stream.results) >= taken


async def test_large_values_that_are_refused(server: Served) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as stream:
        await unread(stream)
        before = resident(server)
        text = "{" + "x" * VALUE_BYTES
        refused, request = stream.number([put("k", text)])
        for _ in range(FLOOD):
            assert await stream.write(request, DEADLINE_SECONDS)
            numbers, request = stream.number(request.operations)
            refused += numbers
        await still_serves(channel)
        # Requests of a megabyte, of which gRPC has read ahead 70 MiB: kept by mistake, they were gigabytes.
        assert resident(server) - before < SLACK + 32 * MIB
        # None of it is lost when he reads after all.
        assert {failure(result).reason for result in await stream.of(refused[:-1])} == {"INVALID_VALUE"}
        assert await stream.end() is None


async def test_very_many_small_operations_of_one_request(server: Served) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel, Execution(channel) as stream:
        await unread(stream)
        before = resident(server)
        await flood(stream, [get("k")] * 800_000, 100_000)
        await still_serves(channel)
        assert resident(server) - before < SLACK


async def unread(stream: Execution) -> None:
    """Sends for more than fits on the way to a client that reads nothing: what comes later is kept."""
    await stream.run(put("large", b"x" * VALUE_BYTES))
    await stream.send(*[get("large")] * 60)
