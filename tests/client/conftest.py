"""A served binary for all tests of the client, with a domain of its own for each.

The stores do not watch: what the rules of a dict make of its own calls is tested alone, and what the stream
of changes brings in `coherence`.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neardict
from served import Served

from .gate import DEADLINE, Gate
from .threads import InThread, Running

CONFIG = """
default = "memory"
limits = { max_value_bytes = 100000 }
[backends.memory]
implementation = "memory"
[backends.files]
implementation = "json"
settings = { root_dir = "files" }
[backends.sqlite]
implementation = "sqlite"
[backends.null]
implementation = "null"
[[routes]]
domain = "files.*"
backend = "files"
[[routes]]
domain = "sqlite.*"
backend = "sqlite"
[[routes]]
domain = "null.*"
backend = "null"
"""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[Served]:
    (data / "neardict.toml").write_text(CONFIG)
    with Served("--config", data / "neardict.toml", "--data", data, cwd=data) as server:
        yield server


@pytest.fixture
def domain() -> str:
    return f"test.{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def store(server: Served) -> Iterator[neardict.Store]:
    with neardict.connect(server.address, watch=False) as store:
        yield store


@pytest.fixture
def elsewhere(server: Served) -> Iterator[neardict.Store]:
    """What another process would use: a store of its own, round the gate."""
    with neardict.connect(server.address, watch=False) as store:
        yield store


@pytest.fixture
def gate(server: Served) -> Iterator[Gate]:
    with Gate(server.address) as gate:
        yield gate


@pytest.fixture
def gated(gate: Gate) -> Iterator[neardict.Store]:
    """A store behind the gate."""
    with neardict.connect(gate.address, watch=False) as store:
        yield store


@pytest.fixture
def in_thread() -> Iterator[InThread]:
    """Runs functions in threads, and joins these in the end."""
    running: list[Running] = []

    def start(function: Callable[..., Any], *args: Any) -> Running:
        running.append(Running(function, *args))
        return running[-1]

    yield start
    for one in running:
        one.thread.join(DEADLINE)
        assert not one.thread.is_alive()
