"""Access without our client: from the contract alone, as `grpcurl` and every generated stub do it."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor, descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from kinds import KEEPING, write_routes
from redis_server import RedisServer
from served import Served

from .toolchains import BUF, PROTOS, ROOT, SECONDS, needed, run

SERVICE = "neardict.v1.StorageService"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
# Where the documents say that the service is.
DOCUMENTED_TARGET = "localhost:50051"


class Caller:
    """Calls by name with JSON in and out, knowing nothing but the descriptors of `pool`."""

    def __init__(self, channel: grpc.Channel, pool: descriptor_pool.DescriptorPool) -> None:
        self._channel = channel
        self.service = pool.FindServiceByName(SERVICE)

    def __call__(self, name: str, **request: Any) -> list[dict[str, Any]]:
        """Returns the messages of the answer."""
        method = self.service.methods_by_name[name]
        kind = message_factory.GetMessageClass(method.input_type)
        path = f"/{SERVICE}/{name}"
        reading = message_factory.GetMessageClass(method.output_type).FromString
        send = json_format.ParseDict(request, kind()).SerializeToString()
        call: Any = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        answer = call(path, response_deserializer=reading)(send, timeout=10)
        return [
            json_format.MessageToDict(message, preserving_proto_field_name=True)
            for message in (answer if method.server_streaming else [answer])
        ]

    def one(self, name: str, **request: Any) -> dict[str, Any]:
        [answer] = self(name, **request)
        return answer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("grpcurl")
    config = write_routes(folder, [*KEEPING, "null"], redis, default="sqlite")
    with Served("--config", config, "--data", folder / "data") as server:
        yield server


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pool.DescriptorPool:
    """The contract, compiled from its file alone."""
    folder = tmp_path_factory.mktemp("compiled")
    run(BUF, "build", PROTOS, "--as-file-descriptor-set", "--output", "contract.binpb", cwd=folder)
    files = descriptor_pb2.FileDescriptorSet.FromString((folder / "contract.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


@pytest.fixture
def caller(served: Served, compiled: descriptor_pool.DescriptorPool) -> Iterator[Caller]:
    with grpc.insecure_channel(served.address) as channel:
        yield Caller(channel, compiled)


@pytest.mark.parametrize("backend", KEEPING)
def test_stubs_of_the_contract_alone_do_the_four_operations(caller: Caller, backend: str) -> None:
    domain = f"{backend}.grpcurl"
    at = {"domain": domain, "key": "grüße/🎲"}
    assert "found" not in caller.one("GetValue", **at)

    written = caller.one("SetValue", **at, value={"json": '{"id":9007199254740993}'})
    read = caller.one("GetValue", **at)
    assert read["found"] is True
    assert read["entry"]["key"] == at["key"]
    assert json.loads(read["entry"]["value"]["json"]) == {"id": 9007199254740993}
    assert read["entry"]["revision"] == written["revision"]

    with pytest.raises(grpc.RpcError) as refused:
        caller("SetValue", **at, value={"json": "0"}, if_absent=True)
    assert refused.value.code() is grpc.StatusCode.ABORTED

    caller("SetValue", domain=domain, key="bytes", value={"raw": "AP8="})
    pages = caller("AllKeys", domain=domain)
    assert sorted(key for page in pages for key in page.get("keys", [])) == ["bytes", at["key"]]

    assert caller.one("DeleteKey", **at)["existed"] is True
    assert "existed" not in caller.one("DeleteKey", **at)
    assert "found" not in caller.one("GetValue", **at)


def test_stubs_of_the_contract_alone_reach_a_backend_that_keeps_nothing(caller: Caller) -> None:
    at = {"domain": "null.grpcurl", "key": "gone"}
    assert int(caller.one("SetValue", **at, value={"json": "1"})["revision"]) > 0
    assert "found" not in caller.one("GetValue", **at)
    assert "keys" not in caller.one("AllKeys", domain="null.grpcurl")
    assert "existed" not in caller.one("DeleteKey", **at)


def test_the_service_reflects_the_contract_as_its_file_has_it(
    served: Served, compiled: descriptor_pool.DescriptorPool
) -> None:
    with grpc.insecure_channel(served.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        reflected = Caller(channel, descriptor_pool.DescriptorPool(database))
        assert reflected.one("GetServerInfo")["limits"]["max_key_bytes"] == 1024
    assert stated(reflected.service) == stated(compiled.FindServiceByName(SERVICE))


def stated(service: descriptor.ServiceDescriptor) -> descriptor_pb2.FileDescriptorProto:
    """Returns the file of the service, less the default JSON names, which only some compilers write out."""
    file = descriptor_pb2.FileDescriptorProto()
    service.file.CopyToProto(file)
    for message in file.message_type:
        for part in (message, *message.nested_type):  # the entries of maps
            for field in part.field:
                field.ClearField("json_name")
    return file


def grpcurl_lines() -> list[str]:
    """The calls of grpcurl in the shell blocks of the documents."""
    found = []
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        found += [line for line in lines if line.startswith("grpcurl ")]
    return found


@pytest.mark.xdist_group("languages")
@pytest.mark.timeout(SECONDS + 60)
def test_the_grpcurl_lines_of_the_documents_work(served: Served, tmp_path: Path) -> None:
    needed("go")
    run("go", "install", GRPCURL, cwd=tmp_path, env={"GOBIN": str(tmp_path), "GOFLAGS": ""})
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    lines = grpcurl_lines()
    assert lines
    for line in lines:
        assert DOCUMENTED_TARGET in line
        run("sh", "-c", line.replace(DOCUMENTED_TARGET, served.address), cwd=ROOT, env={"PATH": path})
