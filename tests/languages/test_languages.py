"""Programs in other languages, on stubs of their own tools, against the served binary.

Each does the same steps and prints a line of JSON for each; see `go/` and `node/`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import neardict
from neardict.v1 import storage_pb2, storage_pb2_grpc
from served import Served

from .toolchains import PROTOS, SECONDS, run

# One worker runs them all: two compilers at a time would only wait for each other.
pytestmark = [pytest.mark.xdist_group("languages"), pytest.mark.timeout(SECONDS + 60)]

STEPS = [
    "an absent key is not found",
    "a listing of an empty domain is one message without keys",
    "a value that was set is read back with its revision",
    "a revision is a number that a double holds",
    "if_absent on a present key is ABORTED with CONDITION_FAILED",
    "if_revision writes once and is stale the second time",
    "a number beyond 2^53 in JSON is kept as written",
    "null is a value and not an absent key",
    "raw bytes come back exactly",
    "a value of exactly the limit passes a stock channel both ways",
    "a value over the limit is RESOURCE_EXHAUSTED with VALUE_TOO_LARGE",
    "an empty key is INVALID_ARGUMENT with INVALID_KEY",
    "a time to live is answered with the moment of expiry",
    "an expired key is absent",
    "keys are listed by prefix, whatever the script",
    "a listing holds whole entries on request",
    "a key is deleted once, and deleting it again succeeds",
    "a delete with a stale revision is ABORTED",
    "operations of one stream get a result each, in order on their domain",
    "the service tells its limits and backends",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("--data", tmp_path_factory.mktemp("languages")) as server:
        yield server


def test_a_go_program_uses_the_service(served: Served, go: Path) -> None:
    holds_every_step(run("./check", served.address, "languages.go", cwd=go))
    assert greeting(served, "languages.go")["from"] == "go"


def test_a_node_program_uses_the_service(served: Served, node: Path) -> None:
    holds_every_step(run("node", "check.js", PROTOS, served.address, "languages.node", cwd=node))
    assert greeting(served, "languages.node")["from"] == "node"


def test_a_node_program_takes_values_larger_than_a_message(
    tmp_path_factory: pytest.TempPathFactory, node: Path
) -> None:
    folder = tmp_path_factory.mktemp("large")
    with (
        Served("--data", folder, env={"NEARDICT_LIMITS__MAX_VALUE_BYTES": "9000000"}) as server,
        neardict.connect(server.address) as store,
    ):
        run("node", "large.js", PROTOS, server.address, "languages.large", cwd=node)
        mirror = store.dict("languages.large")
        assert mirror == {"text": "aé€🎲" * 700_000, "raw": b"\7" * 9_000_000}


def holds_every_step(output: str) -> None:
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["step"] for line in lines if line["ok"]] == STEPS


def greeting(served: Served, domain: str) -> dict[str, object]:
    """Returns what the program left behind, as Python reads it."""
    with grpc.insecure_channel(served.address) as channel:
        request = storage_pb2.GetValueRequest(domain=domain, key="greeting")
        entry = storage_pb2_grpc.StorageServiceStub(channel).GetValue(request, timeout=10).entry
    value: dict[str, object] = json.loads(entry.value.json)
    assert value["text"] == "grüße 🎲"
    return value
