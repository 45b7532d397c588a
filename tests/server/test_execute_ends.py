"""An Execute stream whose server stops, or is killed: nothing that was answered is lost, nothing is torn."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import asyncio
import contextlib
import json
import random
import signal
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from executing import Execution, delete, get, put
from gated_backend import GatedBackend
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.app import serving
from neardict_server.backends.memory import MemoryBackend
from neardict_server.config import BackendConfig, Config
from served import Served
from wire import DEADLINE_SECONDS, Refusal

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20261125
KILLS = 3
KEYS = 40
DOMAINS = ["kills.a", "kills.b"]
DRAINING = (grpc.StatusCode.UNAVAILABLE, "neardict", "DRAINING")


async def test_a_service_that_drains_sends_the_results_of_what_has_begun_and_then_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = GatedBackend()

    async def opened(*_: object) -> GatedBackend:
        return backend

    monkeypatch.setattr(MemoryBackend, "open", opened)
    backends = {"m": BackendConfig(implementation="memory")}
    config = Config.model_validate({"listen": "127.0.0.1:0", "backends": backends})
    stop, stopping = asyncio.Event(), asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with serving(config) as server:
            address.set_result(server.address)
            await stop.wait()
            stopping.set()

    service = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(await address) as channel, Execution(channel) as stream:
        for domain in ("a", "b"):
            backend.hold(domain)
        begun = await stream.send(put("begun", domain="a"), get("begun", domain="b"))
        for domain in ("a", "b"):
            await backend.has_begun(domain, "begun")
        waiting = await stream.send(put("waiting", domain="a"), put("waiting", domain="b"))
        await stream.run(get("k", domain="free"))
        stop.set()
        await stopping.wait()
        async with Execution(channel) as late:
            refused = await late.ended()
            assert isinstance(refused, Refusal)
            assert (refused.code, refused.domain, refused.reason) == DRAINING
        for domain in ("a", "b"):
            backend.release(domain)
        ended = await stream.ended()
        assert isinstance(ended, Refusal)
        assert (ended.code, ended.domain, ended.reason) == DRAINING
        assert set(begun) < set(stream.results)
        assert stream.results[begun[0]].HasField("set_value")
        assert not set(waiting) & set(stream.results)
        assert "waiting" not in [key for _, key in backend.begun]
    await asyncio.wait_for(service, DEADLINE_SECONDS)


async def test_idle_streams_hold_nothing_up(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            Execution(channel) as stream,
            Execution(channel) as unread,
        ):
            await stream.run(put("k"))
            # Nobody reads: the service has sent it all, and waits for nobody either.
            await unread.send(*[get("k")] * 100)
            began = asyncio.get_running_loop().time()
            server.process.send_signal(signal.SIGTERM)
            ended = await stream.ended()
            assert isinstance(ended, Refusal)
            assert (ended.code, ended.domain, ended.reason) == DRAINING
            assert await asyncio.to_thread(server.process.wait, DEADLINE_SECONDS) == 0
            # Half of the grace that streams have which hold it up.
            assert asyncio.get_running_loop().time() - began < 5


class Writer:
    """Keeps many writes on the way, each key's in order, and knows what may be there after the end."""

    def __init__(self, seed: str) -> None:
        self._randomness = random.Random(seed)
        self._next = 0
        # What each key may hold: the write that was answered last, and all that were sent after it.
        self.possible: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
        self._sent: dict[int, tuple[str, str]] = {}
        self.answered = 0
        self.stream: Execution | None = None

    async def has(self, count: int) -> None:
        """Returns when so many results of this life have come."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.stream is None or len(self.stream.results) < count:
                await asyncio.sleep(0.001)

    def operations(self) -> list[tuple[tuple[str, str], pb.Operation, str | None]]:
        chosen: list[tuple[tuple[str, str], pb.Operation, str | None]] = []
        for _ in range(self._randomness.choice([1, 5, 200])):
            domain, key = self._randomness.choice(DOMAINS), f"k{self._randomness.randrange(KEYS)}"
            self._next += 1
            if self._randomness.random() < 0.2:
                chosen.append(((domain, key), delete(key, domain=domain), None))
                continue
            text = json.dumps([self._next, "é" * self._randomness.choice([0, 10, 3000])])
            chosen.append(((domain, key), put(key, text, domain=domain), text))
        return chosen

    async def run(self, channel: grpc.aio.Channel) -> Refusal | None:
        async with Execution(channel) as stream:
            self.stream = stream
            sending = asyncio.create_task(self._send(stream))
            try:
                return await self._read(stream)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, stream: Execution) -> None:
        while True:
            chosen = self.operations()
            numbers, request = stream.number([operation for _, operation, _ in chosen])
            for number, (place, _, text) in zip(numbers, chosen, strict=True):
                self._sent[number] = place
                self.possible.setdefault(place, [(None, 0)]).append((text, number))
            await stream.call.write(request)
            # Bounded by what is unanswered, as a client does it, and by the reading task's turn.
            while len(self._sent) - len(stream.results) > 2000:
                await asyncio.sleep(0.001)

    async def _read(self, stream: Execution) -> Refusal | None:
        try:
            return await stream.ended()
        finally:
            for number in stream.order:
                result = stream.results[number]
                assert not result.HasField("error"), result
                place = self._sent[number]
                writes = self.possible[place]
                at = next(at for at, (_, one) in enumerate(writes) if one == number)
                # In the order in which they were sent, those of a key.
                assert at == 1
                del writes[0]
            self.answered += len(stream.results)
            self._sent.clear()
            self.stream = None

    async def check(self, channel: grpc.aio.Channel) -> None:
        """Fails unless each key holds its last answered write or one that was sent after it."""
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        for (domain, key), writes in self.possible.items():
            answer = await stub.GetValue(pb.GetValueRequest(domain=domain, key=key))
            found = answer.entry.value.json if answer.found else None
            assert found in [text for text, _ in writes], "lost, or torn"
            self.possible[domain, key] = [(found, 0)]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_what_was_answered_is_there_after_a_restart_and_the_rest_whole_or_not_at_all(
    ending: signal.Signals, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    randomness = random.Random(SEED)
    writer = Writer(f"{SEED}")
    for life in range(KILLS + 1):
        with Served("--data", tmp_path) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                await writer.check(channel)
                if life == KILLS:
                    break
                running = asyncio.create_task(writer.run(channel))
                await writer.has(randomness.randrange(1, 150))
                await asyncio.to_thread(server.stop, ending)
                ended = await asyncio.wait_for(running, DEADLINE_SECONDS)
                assert ended is not None
                # Where a write of ours met the end, grpc.aio hides what the service said.
                if ended.message != "Internal error from Core":
                    assert ended.code == grpc.StatusCode.UNAVAILABLE
                    assert ended.reason == ("DRAINING" if ending == signal.SIGTERM else "")
    print(f"{writer.answered} operations were answered")
    assert writer.answered >= KILLS


async def test_a_client_that_leaves_midway_leaves_each_write_whole_or_not_done(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            for turn in range(20):
                async with Execution(channel) as stream:
                    await stream.send(*(put(f"k{number}", f'"{turn} {number}"') for number in range(500)))
                    if turn % 2:
                        with contextlib.suppress(AssertionError):
                            await stream.of([1])
            async with Execution(channel) as stream:
                results = await stream.run(put("last"), *(get(f"k{number}") for number in range(500)))
            for number, result in enumerate(results[1:]):
                assert not result.HasField("error")
                if result.get_value.found:
                    turn, at = json.loads(result.get_value.entry.value.json).split()
                    assert int(at) == number
        assert server.stop() == 0
    assert "Traceback" not in server.output
    assert "never retrieved" not in server.output
