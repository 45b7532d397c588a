"""Commands as scripts, people and health checks use them, where the service is not up, or not yet."""

import socket
import time
from pathlib import Path

import pytest

from command_line import CommandLine
from processes import ended
from served import Served


def test_ping_prints_the_facts_as_json(command: CommandLine) -> None:
    facts = command("ping", "--count", "3").line
    assert facts["target"] == command.target
    assert len(facts["round_trip_ms"]) == 3
    assert facts["limits"]["max_value_bytes"] == 1024 * 1024
    assert {"name": "sqlite", "implementation": "sqlite"}.items() <= facts["backends"][0].items()
    assert "ttl" in facts["backends"][0]["capabilities"]
    assert facts["routes"][-1] == {"domain": "*", "backend": "sqlite"}


def test_ping_exits_with_5_if_nobody_answers() -> None:
    done = CommandLine("127.0.0.1:1")("ping", "--timeout", "200ms")
    assert (done.code, done.out, done.err.count("\n")) == (5, b"", 1)


def test_ping_waits_for_a_service_that_comes_up(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        ended(CommandLine(address).start("ping", "--wait", "50")) as waiting,
        Served("--listen", address, "--data", tmp_path),
    ):
        out, err = waiting.communicate()
    assert (waiting.returncode, err) == (0, b"")
    assert address in out.decode()


def test_ping_waits_no_longer_than_it_is_told_and_says_why_it_waited_for_nothing() -> None:
    done = CommandLine("127.0.0.1:1")("ping", "--wait", "500ms")
    assert done.code == 5
    assert "cannot reach neardict at 127.0.0.1:1: connection refused. Start it" in done.err
    assert "--target" in done.err


@pytest.mark.parametrize(
    "args",
    [("get", "d", "k"), ("set", "d", "k", "1"), ("keys", "d"), ("watch", "d"), ("export", "d"), ("ping",)],
)
def test_a_person_is_told_at_once_that_nobody_answers_and_where_to_say_another_place(
    args: tuple[str, ...],
) -> None:
    began = time.monotonic()
    done = CommandLine("127.0.0.1:1")(*args, "--timeout", "50")
    assert time.monotonic() - began < 25
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "cannot reach neardict at 127.0.0.1:1: connection refused. Start it with" in done.err
    assert "--target" in done.err


def test_every_command_waits_if_it_is_told_to(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    waiting = CommandLine(address).start("--wait", "50", "set", "d", "k", "1")
    with waiting, Served("--listen", address, "--data", tmp_path):
        out, err = waiting.communicate()
        assert (waiting.returncode, err) == (0, b"")
        assert CommandLine(address)("get", "d", "k", "--wait", "5").line["value"] == 1
    assert b'"revision"' in out
