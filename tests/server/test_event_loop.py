"""Nothing long runs on the event loop: a client that asks for what takes long keeps nobody else waiting."""

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


@pytest.fixture(scope="module")
def watch() -> Iterator[LoopWatch]:
    config = Config(
        listen="127.0.0.1:0", backends={"memory": BackendConfig(implementation="memory")}, default="memory"
    )
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
