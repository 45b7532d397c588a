"""A write in one process is in the maps of all, with nothing to call: Python, asyncio, and stubs alone.

The server is killed and started again in between.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from coherence.checker import BOUND_SECONDS
from coherence.traps import eventually
from kinds import write_config
from served import Served

from .mirrors import Mirror, python_mirror
from .toolchains import PROTOS, SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis_server import RedisServer

pytestmark = [pytest.mark.xdist_group("languages"), pytest.mark.timeout(SECONDS + 60)]

DOMAIN = "mirrors"


@pytest.fixture(params=["go", "node"])
def stubs_only(request: pytest.FixtureRequest) -> Callable[[str], Mirror]:
    """Starts a mirror without any of neardict's code."""
    if request.param == "go":
        program = request.getfixturevalue("go")
        return lambda target: Mirror([program / "mirror" / "mirror", target, DOMAIN])
    program = request.getfixturevalue("node")
    return lambda target: Mirror(["node", program / "mirror.js", PROTOS, target, DOMAIN])


class Service:
    """A server that can be killed and started again, and three processes that use it."""

    def __init__(self, config: Path, data: Path, stubs_only: Callable[[str], Mirror]) -> None:
        self._opened = contextlib.ExitStack()
        self._options = ["--config", str(config), "--data", str(data)]
        self.server = self._opened.enter_context(Served(*self._options))
        address = self.server.address
        started = [python_mirror("python", address, DOMAIN), python_mirror("asyncio", address, DOMAIN)]
        self.mirrors = [self._opened.enter_context(one) for one in (*started, stubs_only(address))]

    def restart(self) -> None:
        again = Served(*self._options, "--listen", self.server.address)
        self.server = self._opened.enter_context(again)

    def close(self) -> None:
        self._opened.close()

    def until_all_show(self, entries: dict[str, Any]) -> None:
        """Returns when every mirror is fresh and holds these."""
        shown = {"fresh": True, "entries": entries}
        for mirror in self.mirrors:
            eventually(lambda mirror=mirror: mirror.shows() == shown)  # type: ignore[misc]  # mypy#15459


@pytest.fixture(params=["sqlite", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(
    kind: str, stubs_only: Callable[[str], Mirror], tmp_path: Path, redis: RedisServer
) -> Iterator[Service]:
    with contextlib.closing(
        Service(write_config(tmp_path, kind, redis), tmp_path / "data", stubs_only)
    ) as running:
        yield running


def test_three_processes_show_each_others_writes_through_a_crash(service: Service, kind: str) -> None:
    expected: dict[str, Any] = {}
    for number, mirror in enumerate(service.mirrors):
        mirror.set(f"by-{number}", {"number": number})
        mirror.set("shared", number)
        expected |= {f"by-{number}": {"number": number}, "shared": number}
        service.until_all_show(expected)
    large = "x" * 10_000
    service.mirrors[0].set("large", large)
    service.until_all_show(expected | {"large": large})
    service.mirrors[2].delete("large")
    service.mirrors[1].delete("by-0")
    del expected["by-0"]
    service.until_all_show(expected)

    service.server.kill()
    killed = time.monotonic()
    for mirror in service.mirrors:
        eventually(lambda mirror=mirror: not mirror.shows()["fresh"])  # type: ignore[misc]  # mypy#15459
    assert time.monotonic() < killed + BOUND_SECONDS
    service.restart()
    if kind == "memory":
        expected = {}
    service.until_all_show(expected)

    for number, mirror in enumerate(service.mirrors):
        mirror.set("after", number)
        service.until_all_show(expected | {"after": number})


def test_what_one_writes_while_others_are_not_back_yet_is_not_missed(service: Service, kind: str) -> None:
    service.mirrors[0].set("key", 0)
    service.until_all_show({"key": 0})
    for number in range(1, 4):
        service.server.kill()
        service.restart()
        # As soon as the writer can, and before he is told anything.
        service.mirrors[number % 3].set("key", number)
        service.until_all_show({"key": number})
