"""Nothing long runs on the event loop: a client that asks for what takes long keeps nobody else waiting."""

import queue
from collections.abc import Iterator

import grpc
import pytest

from loop_watch import MOST_SECONDS, LoopWatch, watching
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from neardict_server.config import BackendConfig, Config

MIB = 1024 * 1024


def mebibyte(part: str) -> str:
    """Returns an array of so many such parts that it has a mebibyte."""
    return "[" + ",".join([part] * ((MIB - 2) // (len(part) + 1))) + "]"


# What takes long to look at, and whether it may be stored.
COSTLY = {
    "empty arrays": (mebibyte("[]"), True),
    "empty objects": (mebibyte("{}"), True),
    "objects": (mebibyte('{"a":1}'), True),
    "deep arrays": (mebibyte("[" * 60 + "]" * 60), True),
    "brackets in texts": (mebibyte('"[{"'), True),
    "too deep at the end": (mebibyte("[]")[:-400] + ",[]" + ",[" * 90 + "]" * 91, False),
    "no JSON at the end": (mebibyte("[]")[:-10], False),
}


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def watch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopWatch]:
    backends = {"only": BackendConfig(implementation=request.param)}
    folder = tmp_path_factory.mktemp("data")
    config = Config(listen="127.0.0.1:0", backends=backends, default="only", data_dir=folder)
    with watching(config) as watch:
        yield watch


@pytest.fixture
def stub(watch: LoopWatch) -> Iterator[storage_pb2_grpc.StorageServiceStub]:
    with grpc.insecure_channel(watch.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        stub.GetServerInfo(pb.GetServerInfoRequest())
        watch.begin()
        yield stub


@pytest.mark.parametrize("name", COSTLY)
def test_costly_json(watch: LoopWatch, stub: storage_pb2_grpc.StorageServiceStub, name: str) -> None:
    text, is_json = COSTLY[name]
    request = pb.SetValueRequest(domain="d", key="k", value=pb.Value(json=text))
    for _ in range(3):
        call = stub.SetValue.future(request)
        assert call.code() is (grpc.StatusCode.OK if is_json else grpc.StatusCode.INVALID_ARGUMENT)
    requests = [
        pb.ExecuteRequest(operations=[pb.Operation(number=number, set_value=request)]) for number in (1, 2, 3)
    ]
    results = [result for response in stub.Execute(iter(requests)) for result in response.results]
    assert [result.HasField("set_value") for result in results] == [is_json] * 3
    assert watch.longest < MOST_SECONDS, watch.what


def write(stub: storage_pb2_grpc.StorageServiceStub, domain: str, count: int) -> int:
    """Writes so many entries; returns the revision of the first."""
    requests = [
        pb.ExecuteRequest(
            operations=[
                pb.Operation(
                    number=1 + number,
                    set_value=pb.SetValueRequest(domain=domain, key=f"k{number}", value=pb.Value(json="1")),
                )
                for number in range(start, min(start + 500, count))
            ]
        )
        for start in range(0, count, 500)
    ]
    results = [result for response in stub.Execute(iter(requests)) for result in response.results]
    assert len(results) == count
    return min(result.set_value.revision for result in results)


class Watching:
    """A stream of changes: `say` sends requests, iteration gives what comes."""

    def __init__(self, stub: storage_pb2_grpc.StorageServiceStub) -> None:
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self.responses = stub.Watch(iter(self._requests.get, None))

    def say(self, **request: object) -> None:
        self._requests.put(pb.WatchRequest(**request))  # type: ignore[arg-type]

    def end(self) -> None:
        self._requests.put(None)


@pytest.mark.parametrize(("count", "told"), [(15_000, True), (40_000, False)])
def test_who_has_missed_much(
    watch: LoopWatch, stub: storage_pb2_grpc.StorageServiceStub, count: int, *, told: bool
) -> None:
    domain = f"missed.{count}"
    first = write(stub, domain, count)
    watch.begin()
    stream = Watching(stub)
    stream.say(subscribe=pb.Subscribe(domain=domain, from_revision=first))
    changes = 0
    for response in stream.responses:
        changes += len(response.changes.changes)
        if response.HasField("subscribed"):
            assert response.subscribed.complete is told
            break
    stream.end()
    assert changes == (count - 1 if told else 0)
    assert watch.longest < MOST_SECONDS, watch.what


def test_a_stream_of_very_many_domains_that_ends(
    watch: LoopWatch, stub: storage_pb2_grpc.StorageServiceStub
) -> None:
    stream = Watching(stub)
    count = 50_000
    for number in range(count):
        stream.say(subscribe=pb.Subscribe(domain=f"many.{number}"))
    seen = 0
    for response in stream.responses:
        seen += response.HasField("subscribed")
        if seen == count:
            break
    watch.begin()
    stream.responses.cancel()
    # Answered behind the end of the stream, or between its steps.
    for _ in range(50):
        stub.GetServerInfo(pb.GetServerInfoRequest())
    assert watch.longest < MOST_SECONDS, watch.what
