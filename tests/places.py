"""A served binary with one kind of backend, and the requests that tests make of it."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from neardict.v1 import storage_pb2 as pb
from wire import Refusal, ask

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DOMAIN = "bad.input"


class Place(NamedTuple):
    """A server of one kind of backend, and the folder around the one that its data is in."""

    kind: str
    channel: grpc.Channel
    around: Path

    @property
    def keeps(self) -> bool:
        return self.kind != "null"


def outside(around: Path) -> dict[str, str]:
    """Returns the contents of everything in the folder that is not the server's data."""
    return {
        str(path.relative_to(around)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in around.rglob("*")
        if not path.is_relative_to(around / "data")
    }


def put(place: Place, key: str, value: pb.Value, **more: Any) -> pb.SetValueResponse:
    answer = ask(place.channel, "SetValue", write(key, value, **more))
    assert isinstance(answer, bytes), answer
    return pb.SetValueResponse.FromString(answer)


def write(key: str, value: pb.Value, *, domain: str = DOMAIN, **more: Any) -> pb.SetValueRequest:
    return pb.SetValueRequest(domain=domain, key=key, value=value, **more)


def get(place: Place, key: str, domain: str = DOMAIN) -> pb.GetValueResponse:
    answer = ask(place.channel, "GetValue", pb.GetValueRequest(domain=domain, key=key))
    assert isinstance(answer, bytes), answer
    return pb.GetValueResponse.FromString(answer)


def refused(place: Place, method: str, request: Message | bytes) -> tuple[grpc.StatusCode, str]:
    answer = ask(place.channel, method, request)
    assert isinstance(answer, Refusal), answer
    assert answer.domain == "neardict", answer
    assert answer.message, answer
    return answer.code, answer.reason
