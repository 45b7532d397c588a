"""A service whose dicts are told of each other's writes, and two processes' worth of stores."""

import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import aio
from served import Served
from waiting import DEADLINE_SECONDS

SECONDS = DEADLINE_SECONDS

CONFIG = """
[backends.sqlite]
implementation = "sqlite"
[backends.memory]
implementation = "memory"
[[routes]]
domain = "memory.*"
backend = "memory"
[[routes]]
domain = "*"
backend = "sqlite"
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("coherence")
    (folder / "neardict.toml").write_text(CONFIG)
    with Served("--config", folder / "neardict.toml", "--data", folder / "data") as server:
        yield server


@pytest.fixture
def domain() -> str:
    """A domain of the test's own."""
    return f"coherence.{os.getpid()}.{uuid.uuid4().hex}"


@pytest.fixture
def store(server: Served) -> Iterator[neardict.Store]:
    with neardict.connect(server.address) as store:
        yield store


@pytest.fixture
def elsewhere(server: Served) -> Iterator[neardict.Store]:
    """What another process would use: its writes come by the stream alone."""
    with neardict.connect(server.address) as store:
        yield store


@pytest.fixture
async def aio_store(server: Served) -> AsyncIterator[aio.Store]:
    async with aio.connect(server.address) as store:
        yield store


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Served]:
    """A service of the test's own, which it may stop. Its domains are in memory, and so lost."""
    (tmp_path / "neardict.toml").write_text(
        'default = "memory"\n[backends.memory]\nimplementation = "memory"\n'
    )
    with Served("--config", tmp_path / "neardict.toml", "--data", tmp_path / "data") as server:
        yield server


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Returns what the condition does once it is true."""

    def wait(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (result := condition()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return result

    return wait
