"""Writes entries to a server by the million, with as little work for this process as there can be."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .operations import DOMAIN, KEYS, VALUE, key

PART = 500


def fill(address: str) -> None:
    """Writes all keys of the bench."""
    write(address, DOMAIN, ((key(number), VALUE) for number in range(KEYS)))


def write(address: str, domain: str, entries: Iterable[tuple[str, Any]]) -> None:
    """Writes any number of entries, by one Execute stream. Raises AssertionError if one is not written."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
        for response in stub.Execute(_requests(domain, entries)):
            for result in response.results:
                if result.WhichOneof("result") != "set_value":
                    raise AssertionError(f"an entry of {domain} was not written: {result.error.message}")


def _requests(domain: str, entries: Iterable[tuple[str, Any]]) -> Iterator[pb.ExecuteRequest]:
    numbered = enumerate(entries)
    while part := list(itertools.islice(numbered, PART)):
        yield pb.ExecuteRequest(
            operations=[
                pb.Operation(
                    number=number,
                    set_value=pb.SetValueRequest(
                        domain=domain,
                        key=name,
                        value=pb.Value(json=json.dumps(value, separators=(",", ":"))),
                    ),
                )
                for number, (name, value) in part
            ]
        )
