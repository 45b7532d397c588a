"""ping as a script and a health check use it."""

import socket
from pathlib import Path

from command_line import CommandLine
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
    waiting = CommandLine(address).start("ping", "--wait", "50")
    with waiting, Served("--listen", address, "--data", tmp_path):
        out, err = waiting.communicate()
    assert (waiting.returncode, err) == (0, b"")
    assert address in out.decode()


def test_ping_waits_no_longer_than_it_is_told_and_says_why_it_waited_for_nothing() -> None:
    done = CommandLine("127.0.0.1:1")("ping", "--wait", "500ms")
    assert done.code == 5
    assert "cannot reach neardict at 127.0.0.1:1: connection refused. Start it" in done.err
    assert "--target" in done.err
