"""kill -9 of the server while it writes: what was acknowledged is there, and nothing is torn."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import json
import os
import random
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from kinds import TYPES, write_config
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.backends import base
from served import Served
from waiting import DEADLINE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from redis_server import RedisServer

SEED = int(os.environ.get("NEARDICT_TEST_SEED", "20261123"))
# 50 kills, in pieces that test processes share out.
PIECES = [
    *(("sqlite", kills, piece) for piece, kills in enumerate((9, 8))),
    *(("json", kills, piece) for piece, kills in enumerate((9, 8))),
    *(("redis", kills, piece) for piece, kills in enumerate((8, 8))),
]
WRITERS = 8
KEYS_PER_WRITER = 5
MAX_SECONDS_OF_WRITING = 0.25


@dataclass
class Write:
    """One write of one key; `data` is None for a deletion."""

    number: int
    data: base.Value | None
    revision: int = 0

    @property
    def request_id(self) -> str:
        return f"write-{self.number}"


@dataclass
class History:
    """What became of one key: its last acknowledged write, and one whose answer never came."""

    acknowledged: Write | None = None
    unanswered: Write | None = None


@dataclass
class Writer:
    """Writes its own keys, one call at a time, and remembers what it was told."""

    domain: str
    name: int
    randomness: random.Random
    keys: dict[str, History] = field(default_factory=dict)
    acknowledged: int = 0

    async def run(self, stub: Any) -> None:
        """Writes until the server is gone."""
        while True:
            key = f"writer-{self.name}/{self.randomness.randrange(KEYS_PER_WRITER)}"
            history = self.keys.setdefault(key, History())
            # First what was not answered in the life of the server before, as a client retries.
            write = history.unanswered or self._next(key)
            history.unanswered = write
            try:
                write.revision = await send(self.domain, stub, key, write)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                return
            history.acknowledged, history.unanswered = write, None
            self.acknowledged += 1

    def _next(self, key: str) -> Write:
        number = self.randomness.randrange(2**48)
        size = self.randomness.choice([0, 10, 1000, 30_000])
        draw = self.randomness.random()
        if draw < 0.15:
            return Write(number, None)
        if draw < 0.3:
            return Write(number, f"{key} {number} ".encode() + b"\0\xff" * size)
        return Write(number, json.dumps({"key": key, "number": number, "filler": "é" * size}))


async def send(domain: str, stub: Any, key: str, write: Write) -> int:
    if write.data is None:
        deletion = pb.DeleteKeyRequest(domain=domain, key=key, request_id=write.request_id)
        return int((await stub.DeleteKey(deletion)).revision)
    value = pb.Value(json=write.data) if isinstance(write.data, str) else pb.Value(raw=write.data)
    request = pb.SetValueRequest(domain=domain, key=key, value=value, request_id=write.request_id)
    return int((await stub.SetValue(request)).revision)


async def stored(domain: str, stub: Any) -> dict[str, pb.Entry]:
    """Returns all entries, each found whole, both in the listing and by its key."""
    entries = {}
    async for page in stub.AllKeys(pb.AllKeysRequest(domain=domain, include_entries=True)):
        assert not page.unreadable_keys, "torn"
        for entry in page.entries:
            assert entry.key not in entries, "listed twice"
            entries[entry.key] = entry
    for key, entry in entries.items():
        assert (await stub.GetValue(pb.GetValueRequest(domain=domain, key=key))).entry == entry
    return entries


async def until_written(writers: list[Writer], more: int) -> None:
    """Returns when so many more writes have been acknowledged."""
    enough = sum(writer.acknowledged for writer in writers) + more
    async with asyncio.timeout(DEADLINE_SECONDS):
        while sum(writer.acknowledged for writer in writers) < enough:
            await asyncio.sleep(0.005)


def meaning(data: base.Value) -> Any:
    # A backend may change white space, and nothing else.
    return data if isinstance(data, bytes) else json.loads(data)


def data_of(entry: pb.Entry) -> base.Value:
    return entry.value.raw if entry.value.WhichOneof("kind") == "raw" else entry.value.json


def check(history: History, entry: pb.Entry | None) -> None:
    """Fails unless the key holds its last acknowledged write, or a newer one that was sent."""
    known, unanswered = history.acknowledged, history.unanswered
    if entry is None:
        lost = known is not None and known.data is not None
        deleted = unanswered is not None and unanswered.data is None
        assert not lost or deleted, "an acknowledged write is lost"
        return
    if known is not None and entry.revision <= known.revision:
        assert entry.revision == known.revision, "an older entry is back"
        assert known.data is not None, "a deleted entry is back"
        assert meaning(data_of(entry)) == meaning(known.data)
        return
    assert unanswered is not None, "an entry that nobody wrote"
    assert unanswered.data is not None, "an entry that nobody wrote"
    assert meaning(data_of(entry)) == meaning(unanswered.data)


async def check_what_is_there(domain: str, writers: list[Writer], stub: Any, *, durable_ids: bool) -> None:
    entries = await stored(domain, stub)
    histories = {key: history for writer in writers for key, history in writer.keys.items()}
    assert set(entries) <= set(histories), "keys that nobody wrote"
    for key, history in histories.items():
        check(history, entries.get(key))
    newest = max((h.acknowledged.revision for h in histories.values() if h.acknowledged), default=0)
    probe = await send(domain, stub, "probe", Write(random.getrandbits(48), "1"))
    assert probe > max(newest, *(entry.revision for entry in entries.values()), 0), "revisions went back"
    await send(domain, stub, "probe", Write(random.getrandbits(48), None))
    if durable_ids:
        # The retry of a write that did take effect must find that, not write once more.
        for key, history in histories.items():
            entry, write = entries.get(key), history.unanswered
            known = history.acknowledged.revision if history.acknowledged else 0
            if write is not None and entry is not None and entry.revision > known:
                assert await send(domain, stub, key, write) == entry.revision


@pytest.mark.parametrize(
    ("kind", "kills", "piece"),
    [pytest.param(*piece, marks=pytest.mark.xdist_group(f"kills-{n}")) for n, piece in enumerate(PIECES)],
)
async def test_no_acknowledged_write_is_lost_and_none_is_torn(
    kind: str, kills: int, piece: int, tmp_path: Path, redis: RedisServer
) -> None:
    seed = f"{SEED}-{kind}-{piece}"
    print(f"NEARDICT_TEST_SEED={SEED}: {kills} kills of a server of {kind}")
    randomness = random.Random(seed)
    # The Redis is that of other tests too.
    domain = f"kills.{uuid.uuid4().hex}"
    writers = [Writer(domain, name, random.Random(f"{seed}-{name}")) for name in range(WRITERS)]
    durable_ids = base.Capability.DURABLE_REQUEST_ID in TYPES[kind].capabilities
    config = write_config(tmp_path, kind, redis)
    for life in range(kills + 1):
        with Served("--config", config, "--data", tmp_path / "data") as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
                await check_what_is_there(domain, writers, stub, durable_ids=durable_ids)
                if life == kills:
                    break
                tasks = [asyncio.create_task(writer.run(stub)) for writer in writers]
                # Every second kill may come before anything is written; on a busy machine all might.
                if life % 2:
                    await until_written(writers, 3 * WRITERS)
                await asyncio.sleep(randomness.uniform(0, MAX_SECONDS_OF_WRITING))
                await asyncio.to_thread(server.kill)
                await asyncio.gather(*tasks)
    acknowledged = sum(writer.acknowledged for writer in writers)
    print(f"{acknowledged} writes were acknowledged")
    assert acknowledged > kills * WRITERS


def test_there_are_fifty_kills() -> None:
    assert sum(kills for _, kills, _ in PIECES) == 50
