"""Values that do not fit in a message, through both clients and their dicts, with nothing to call."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

import neardict
from neardict import _channel, _chunks, _compression, aio, values
from neardict.v1 import storage_pb2 as pb
from served import Served
from waiting import DEADLINE_SECONDS

from .tcp_gate import TcpGate
from .threads import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .threads import InThread

SECONDS = DEADLINE_SECONDS
MESSAGE = 64 * 1024
# One that the service has to refuse first, and one that the client sends in chunks by itself.
REFUSED = {"text": "aé€𝄞" * 20_000}
LARGE = "aé€𝄞" * 500_000
RAW = bytes(range(256)) * 20_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = {
        "NEARDICT_LIMITS__MAX_VALUE_BYTES": "8000000",
        "NEARDICT_LIMITS__MAX_MESSAGE_VALUE_BYTES": str(MESSAGE),
    }
    with Served("--data", tmp_path_factory.mktemp("large"), env=limits) as server:
        yield server


@pytest.fixture
def domain() -> str:
    return f"large.{uuid.uuid4().hex}"


@pytest.fixture
def watching(server: Served) -> Iterator[neardict.Store]:
    with neardict.connect(server.address) as store:
        yield store


@pytest.fixture
def another(server: Served) -> Iterator[neardict.Store]:
    with neardict.connect(server.address) as store:
        yield store


@pytest.mark.parametrize("value", [REFUSED, LARGE, RAW], ids=["refused first", "text", "bytes"])
def test_single_operations_take_values_of_any_size(store: neardict.Store, domain: str, value: Any) -> None:
    revision = store.set_value(domain, "k", value, if_absent=True)
    assert store.get_value(domain, "k") == value
    entry = store.get_entry(domain, "k")
    assert entry is not None
    assert (entry.value, entry.revision) == (value, revision)
    with pytest.raises(neardict.ConflictError) as caught:
        store.set_value(domain, "k", value, if_absent=True)
    assert caught.value.current_revision == revision
    assert store.set_value(domain, "k", value, if_revision=revision) > revision
    store.set_value(domain, "gone", value, ttl=100)
    entry = store.get_entry(domain, "gone")
    assert entry is not None
    assert entry.expire_time is not None


def test_many_at_once_may_be_of_all_sizes(store: neardict.Store, domain: str) -> None:
    new = {"small": 1, "refused": REFUSED, "large": LARGE, "raw": RAW, "other": [2]}
    revisions = store.set_many(domain, new)
    assert revisions.keys() == new.keys()
    assert store.get_many(domain, [*new, "absent"]) == new
    assert {entry.key: entry.value for entry in store.all_entries(domain)} == new
    assert {entry.key: entry.revision for entry in store.all_entries(domain)} == revisions
    assert {entry.key for entry in store.all_entries(domain, prefix="re")} == {"refused"}


def test_of_many_those_that_are_too_large_fail_and_the_others_are_stored(
    store: neardict.Store, domain: str
) -> None:
    new = {"small": 1, "too large": b"x" * 8_000_001, "large": LARGE}
    with pytest.raises(neardict.BulkError) as caught:
        store.set_many(domain, new)
    assert {key: error.reason for key, error in caught.value.failures.items()} == {
        "too large": "VALUE_TOO_LARGE"
    }
    assert store.get_many(domain, new) == {"small": 1, "large": LARGE}


def test_mirrors_hold_large_values_whoever_writes_them(
    watching: neardict.Store, another: neardict.Store, domain: str
) -> None:
    early = watching.dict(domain)
    theirs = another.dict(domain)
    theirs["k"] = LARGE
    assert theirs["k"] == LARGE
    until(lambda: "k" in early)
    assert early["k"] == LARGE
    late = watching.dict(domain)
    assert late == early == theirs
    assert len(late) == 1
    theirs.update({"k": RAW, "small": 1, "refused": REFUSED})
    until(lambda: len(early) == 3 and early["k"] == RAW)
    assert early == {"k": RAW, "small": 1, "refused": REFUSED}
    theirs["k"] = 1
    until(lambda: early["k"] == 1)
    del theirs["refused"]
    until(lambda: "refused" not in early)
    assert late.copy() == {"k": 1, "small": 1}


def test_a_cache_looks_large_values_up_and_edits_them(
    watching: neardict.Store, another: neardict.Store, domain: str
) -> None:
    another.set_value(domain, "k", REFUSED)
    cache = watching.dict(domain, load=False)
    assert cache["k"] == REFUSED
    with cache.edit("k") as value:
        value["more"] = LARGE
    assert another.get_value(domain, "k") == {**REFUSED, "more": LARGE}
    assert cache.get_many(["k", "absent"]) == {"k": {**REFUSED, "more": LARGE}}
    assert cache.pop("k") == {**REFUSED, "more": LARGE}
    assert cache.copy() == {}


def test_a_large_value_that_goes_during_a_listing_is_left_out(
    store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_many(domain, {"small": 1, "large": LARGE})
    cache = store.dict(domain, load=False)
    pages = store.pages(pb.AllKeysRequest(domain=domain, include_entries=True))
    first = next(pages)
    assert [*first.large_keys] == ["large"]
    store.delete_key(domain, "large")
    assert [entry.key for page in (first, *pages) for entry in page.entries] == ["small"]
    assert cache.copy() == {"small": 1}


def test_a_listing_does_not_bring_back_a_large_value_that_was_deleted_meanwhile(
    watching: neardict.Store, another: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    another.set_value(domain, "k", LARGE)
    mirror = watching.dict(domain)
    read = watching._large.read

    def read_and_be_overtaken(*args: Any) -> pb.GetValueResponse:
        answer = read(*args)
        watching.delete_key(domain, "k")
        return answer

    monkeypatch.setattr(watching._large, "read", read_and_be_overtaken)
    mirror.refresh()
    monkeypatch.undo()
    assert "k" not in mirror
    assert mirror == {}


def test_a_value_over_the_limit_is_refused_without_being_sent(store: neardict.Store, domain: str) -> None:
    mirror = store.dict(domain)
    for value in (b"x" * 8_000_001, "x" * 8_000_000):
        with pytest.raises(neardict.LimitExceededError) as caught:
            mirror["k"] = value
        assert caught.value.reason == "VALUE_TOO_LARGE"
    assert mirror == {}


def cut_at_first(monkeypatch: pytest.MonkeyPatch, network: TcpGate, cuts: list[int]) -> None:
    """Cuts the connections when the client sends the fifth part, for the first time only."""
    parts = _chunks.Outgoing.parts

    def cut(self: _chunks.Outgoing, last: Callable[[], object]) -> Iterator[pb.WriteValueRequest]:
        for number, part in enumerate(parts(self, last)):
            if number == 5 and not cuts:
                cuts.append(number)
                network.cut()
            yield part

    monkeypatch.setattr(_chunks.Outgoing, "parts", cut)


def test_an_upload_that_is_cut_begins_again(
    server: Served, store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[int] = []
    with TcpGate(server.address) as network, neardict.connect(network.address, watch=False) as behind:
        cut_at_first(monkeypatch, network, cuts)
        revision = behind.set_value(domain, "k", RAW)
    assert cuts
    entry = store.get_entry(domain, "k")
    assert entry is not None
    assert (entry.revision, entry.value) == (revision, RAW)


async def test_an_upload_that_is_cut_begins_again_for_asyncio_too(
    server: Served, store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[int] = []
    with TcpGate(server.address) as network:
        async with aio.connect(network.address, watch=False) as behind:
            cut_at_first(monkeypatch, network, cuts)
            revision = await behind.set_value(domain, "k", RAW)
    assert cuts
    entry = store.get_entry(domain, "k")
    assert entry is not None
    assert (entry.revision, entry.value) == (revision, RAW)


class Losing:
    """The stub of a store, whose first upload is applied, and its answer lost."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.lost: list[pb.WriteValueResponse] = []
        self.WriteValue = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stub, name)

    def future(self, requests: Any, timeout: float) -> Any:
        call = self._stub.WriteValue.future(requests, timeout=timeout)
        if not self.lost:
            self.lost.append(call.result())
            raise neardict.UnavailableError("the connection broke")
        return call


def test_an_upload_whose_answer_was_lost_is_written_once(store: neardict.Store, domain: str) -> None:
    losing = store._large._stub = Losing(store._large._stub)
    revision = store.set_value(domain, "k", RAW)
    entry = store.get_entry(domain, "k")
    assert entry is not None
    assert [lost.revision for lost in losing.lost] == [revision] == [entry.revision]


def test_a_read_that_is_cut_begins_again(
    server: Served, store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_value(domain, "k", RAW)
    cuts: list[int] = []
    add = _chunks.Incoming.add
    with TcpGate(server.address) as network, neardict.connect(network.address, watch=False) as behind:

        def cut(self: _chunks.Incoming, part: pb.ReadValueResponse) -> None:
            if part.chunk and not cuts:
                cuts.append(1)
                network.cut()
            add(self, part)

        monkeypatch.setattr(_chunks.Incoming, "add", cut)
        assert behind.get_value(domain, "k") == RAW
    assert cuts


def test_nobody_there_is_reported_in_time(server: Served, domain: str) -> None:
    with TcpGate(server.address) as network, neardict.connect(network.address, watch=False) as behind:
        network.close()
        with pytest.raises(neardict.UnavailableError):
            behind.set_value(domain, "k", RAW)
        started = time.monotonic()
        with pytest.raises((neardict.UnavailableError, neardict.DeadlineExceededError)):
            behind.set_value(domain, "k", RAW, timeout=0.3)
        assert time.monotonic() - started < 5


def test_the_timeout_holds_for_an_upload_that_nobody_takes(
    server: Served, store: neardict.Store, domain: str
) -> None:
    with TcpGate(server.address) as network, neardict.connect(network.address, watch=False) as behind:
        behind.server_info()
        network.hold_replies()
        with pytest.raises(neardict.DeadlineExceededError):
            behind.set_value(domain, "k", RAW, timeout=0.3)


def test_a_store_that_is_closed_ends_an_upload(
    server: Served, domain: str, monkeypatch: pytest.MonkeyPatch, in_thread: InThread
) -> None:
    begun, going_on = threading.Event(), threading.Event()
    parts = _chunks.Outgoing.parts

    def stopping(self: _chunks.Outgoing, last: Callable[[], object]) -> Iterator[pb.WriteValueRequest]:
        for number, part in enumerate(parts(self, last)):
            if number == 3:
                begun.set()
                going_on.wait(SECONDS)
            yield part

    monkeypatch.setattr(_chunks.Outgoing, "parts", stopping)
    store = neardict.connect(server.address, watch=False)
    writing = in_thread(store.set_value, domain, "k", RAW)
    assert begun.wait(SECONDS)
    store.close()
    going_on.set()
    with pytest.raises(neardict.ClosedError):
        writing.result()


async def test_asyncio_takes_values_of_any_size(server: Served, store: neardict.Store, domain: str) -> None:
    new = {"small": 1, "refused": REFUSED, "large": LARGE, "raw": RAW}
    async with aio.connect(server.address) as astore:
        await astore.set_value(domain, "raw", RAW)
        assert await astore.get_value(domain, "raw") == RAW
        revisions = await astore.set_many(domain, new)
        assert revisions.keys() == new.keys()
        assert await astore.get_many(domain, [*new, "absent"]) == new
        assert {entry.key: entry.value async for entry in astore.all_entries(domain)} == new
        mirror = await astore.dict(domain)
        assert dict(mirror.items()) == new
        await mirror.set("small", LARGE)
        assert store.get_value(domain, "small") == LARGE
        with pytest.raises(neardict.LimitExceededError):
            await mirror.set("small", b"x" * 8_000_001)
        assert await mirror.fetch("small") == LARGE


async def test_asyncio_dicts_follow_large_values_of_others(
    server: Served, store: neardict.Store, domain: str
) -> None:
    async with aio.connect(server.address) as astore:
        mirror = await astore.dict(domain)
        assert mirror == {}
        store.set_value(domain, "k", LARGE)
        deadline = time.monotonic() + SECONDS
        while await mirror.fetch("k", None) != LARGE:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


def test_gRPC_does_not_keep_chunks_to_send_them_again() -> None:  # noqa: N802  # its name
    # It would by a retry policy, which neither these calls nor any other have.
    assert "retryPolicy" not in str(dict(_channel.OPTIONS).get("grpc.service_config", ""))


def test_what_is_large_is_counted_in_bytes() -> None:
    limit = _chunks.MESSAGE_VALUE_BYTES
    for value, large in (
        (pb.Value(raw=os.urandom(limit)), False),
        (pb.Value(raw=os.urandom(limit + 1)), True),
        (pb.Value(json="x" * limit), False),
        (pb.Value(json="x" * (limit + 1)), True),
        (pb.Value(json="é" * (limit // 2)), False),
        (pb.Value(json="é" * (limit // 2 + 1)), True),
    ):
        assert _chunks.is_large(pb.SetValueRequest(value=value)) is large


LONG = {"rows": [{"name": f"é {number}", "hp": number} for number in range(100_000)]}
MIDDLE = {"rows": [{"name": f"é {number}", "hp": number} for number in range(1_000)]}
ALL = {"small": 1, "middle": MIDDLE, "large": LONG, "raw": RAW, "random": os.urandom(100_000)}


class Counting:
    """A stub that keeps the writes that were asked of it, and the parts of values that it answered."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.seen: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return self if name in ("SetValue", "ReadValue") else getattr(self._stub, name)

    def future(self, request: Any, **more: Any) -> Any:
        self.seen.append(request)
        return self._stub.SetValue.future(request, **more)

    def __call__(self, request: Any, **more: Any) -> Any:
        call = self._stub.ReadValue(request, **more)
        parts = list(call)
        self.seen += parts
        return Parts(parts)


class Parts(list[Any]):
    """Stands for a call that has brought its parts."""

    def __init__(self, parts: list[Any]) -> None:
        super().__init__(parts)
        self._next = iter(parts)

    def __next__(self) -> Any:
        return next(self._next)

    def cancel(self) -> None:
        pass


def test_a_store_that_compresses_sees_and_writes_what_others_do(
    server: Served, another: neardict.Store, domain: str
) -> None:
    with neardict.connect(server.address, compression="zstd") as store:
        mirror = store.dict(domain)
        mirror.update(ALL)
        assert another.get_many(domain, ALL) == ALL == store.get_many(domain, ALL)
        for key, value in ALL.items():
            store.set_value(domain, key, value)
            assert store.get_value(domain, key) == value == another.get_value(domain, key)
        theirs = another.dict(domain)
        theirs["middle"] = LONG
        theirs["large"] = MIDDLE
        until(lambda: mirror["middle"] == LONG and mirror["large"] == MIDDLE)
        assert store.dict(domain) == theirs == mirror
        assert store.dict(domain, load=False).copy() == theirs


def test_what_a_store_sends_and_gets_is_compressed_where_it_pays(server: Served, domain: str) -> None:
    with neardict.connect(server.address, watch=False, compression="zstd") as store:
        counting = store._stub = store._large._stub = Counting(store._stub)  # type: ignore[assignment]  # stands for a stub
        text = "é" * 25_000
        for value in (text, text.encode(), "small"):
            store.set_value(domain, "k", value)
            assert store.get_value(domain, "k") == value
    requests = [
        seen.value.WhichOneof("kind") for seen in counting.seen if isinstance(seen, pb.SetValueRequest)
    ]
    answers = [
        seen.head.answer.entry.value.WhichOneof("kind")
        for seen in counting.seen
        if isinstance(seen, pb.ReadValueResponse) and seen.HasField("head")
    ]
    assert requests == answers == ["json_zstd", "raw_zstd"]


def test_a_service_that_does_not_understand_it_is_sent_nothing_compressed(
    server: Served, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        def __init__(self, stub: Any) -> None:
            self._stub = stub
            self.GetServerInfo = self

        def future(self, request: Any, **more: Any) -> Any:
            call = self._stub.GetServerInfo.future(request, **more)
            call.result().ClearField("compressions")
            return call

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stub, name)

    with neardict.connect(server.address, watch=False, compression="zstd") as store:
        counting = store._stub = Counting(Old(store._stub))  # type: ignore[assignment]  # stands for a stub
        store.set_value(domain, "k", "é" * 25_000)
        store.set_value(domain, "large", LONG)
        assert store.get_value(domain, "large") == LONG
    assert {
        seen.value.WhichOneof("kind") for seen in counting.seen if isinstance(seen, pb.SetValueRequest)
    } == {"json"}


async def test_asyncio_compresses_too(server: Served, store: neardict.Store, domain: str) -> None:
    async with aio.connect(server.address, compression="zstd") as astore:
        mirror = await astore.dict(domain)
        await mirror.update(ALL)
        assert store.get_many(domain, ALL) == ALL == await astore.get_many(domain, ALL)
        for key, value in ALL.items():
            await astore.set_value(domain, key, value)
            assert await astore.get_value(domain, key) == value == store.get_value(domain, key)
        assert {entry.key: entry.value async for entry in astore.all_entries(domain)} == ALL
        assert dict((await astore.dict(domain)).items()) == ALL


async def test_what_cannot_be_used_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for connect in (neardict.connect, aio.connect):
        with pytest.raises(neardict.InvalidArgumentError, match="zstd"):
            connect("localhost:1", compression="gzip")  # type: ignore[arg-type]  # that is the test
    monkeypatch.setattr(_compression, "_library", lambda: None)
    with pytest.raises(neardict.InvalidArgumentError, match=r"neardict\[zstd\]"):
        neardict.connect("localhost:1", compression="zstd")
    with pytest.raises(neardict.UndecodableValueError, match=r"neardict\[zstd\]"):
        values.decode(pb.Value(raw_zstd=b"x"), pb.COMPRESSION_ZSTD)


def test_a_damaged_answer_is_undecodable() -> None:
    for value in (pb.Value(raw_zstd=b"x"), pb.Value(json_zstd=b""), pb.Value(json_zstd=b"x" * 100)):
        with pytest.raises(neardict.UndecodableValueError, match="damaged"):
            values.decode(value, pb.COMPRESSION_ZSTD)
