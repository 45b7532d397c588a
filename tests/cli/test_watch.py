"""`neardict watch`: the changes of a domain as they come, for scripts and for people."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neardict
from command_line import NEARDICT, CommandLine
from neardict._call_threads import Messages
from neardict.v1 import storage_pb2 as pb
from processes import ended
from served import Served
from waiting import DEADLINE_SECONDS

SECONDS = DEADLINE_SECONDS
EVIL = "\x1b]0;owned\x07\x9b31m\u202e"


class Watched:
    """A `neardict watch` that runs, with what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def lines(self, count: int) -> list[Any]:
        """Returns the next lines, as soon as there are so many."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + SECONDS
        while self._rest.count(b"\n") < count:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"only {self._rest!r}"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, f"it ended after {self._rest!r}: {self.process.communicate()[1]!r}"
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n", count)
        return [json.loads(line) for line in lines]

    def end(self) -> tuple[int, str]:
        """Presses Ctrl-C; returns the exit code and what was complained of."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, err.decode()


@pytest.fixture
def watching() -> Iterator[list[Watched]]:
    watched: list[Watched] = []
    yield watched
    for one in watched:
        one.process.kill()
        one.process.communicate()


def start(command: CommandLine, watching: list[Watched], *args: str) -> Watched:
    watching.append(Watched(command.start("watch", *args)))
    return watching[-1]


def test_prints_changes_as_they_come_and_ends_with_ctrl_c(
    command: CommandLine, watching: list[Watched], store: neardict.Store, domain: str
) -> None:
    first = store.set_value(domain, "before", 1)
    watched = start(command, watching, domain, "--from-revision", str(first))
    revision = store.set_value(domain, "clé", {"a": 1})
    assert watched.lines(1) == [{"kind": "set", "key": "clé", "revision": revision}]
    store.delete_key(domain, "clé")
    (deleted,) = watched.lines(1)
    assert (deleted["kind"], deleted["key"]) == ("delete", "clé")
    assert deleted["revision"] > revision
    assert watched.end() == (130, "")


def test_the_changes_are_read_where_no_interrupt_comes(store: neardict.Store) -> None:
    # gRPC's locks do not bear one, and its threads complain of that when the command has ended.
    messages = store.open_watch(iter([pb.WatchRequest(ping=pb.Ping(number=1))]))
    try:
        assert isinstance(messages, Messages)
        assert next(messages).HasField("heartbeat")
    finally:
        messages.cancel()


def test_values_are_printed_as_they_were_written_also_large_ones(
    command: CommandLine, watching: list[Watched], store: neardict.Store, domain: str
) -> None:
    first = store.set_value(domain, "before", 1)
    watched = start(command, watching, domain, "--values", "--from-revision", str(first))
    store.set_value(domain, "raw", b"\x00\xff")
    store.set_value(domain, "ttl", None, ttl=3600)
    store.set_value(domain, "large", "x" * 100_000)
    raw, ttl, large = watched.lines(3)
    assert (raw["raw_base64"], raw["expire_time"]) == ("AP8=", None)
    assert ttl["value"] is None
    assert ttl["expire_time"].endswith("Z")
    assert large["value"] == "x" * 100_000


def test_a_prefix_selects_keys(
    command: CommandLine, watching: list[Watched], store: neardict.Store, domain: str
) -> None:
    first = store.set_value(domain, "a0", 1)
    watched = start(command, watching, domain, "--prefix", "b", "--from-revision", str(first))
    for key in ("a1", "b1", "a2", "b2"):
        store.set_value(domain, key, 1)
    assert [line["key"] for line in watched.lines(2)] == ["b1", "b2"]


def test_begins_with_the_changes_after_a_revision(
    command: CommandLine, watching: list[Watched], store: neardict.Store, domain: str
) -> None:
    revisions = [store.set_value(domain, key, 1) for key in "abc"]
    watched = start(command, watching, domain, "--from-revision", str(revisions[0]))
    assert [line["revision"] for line in watched.lines(2)] == revisions[1:]
    assert watched.end() == (130, "")


def test_says_so_if_the_changes_after_a_revision_are_not_known_any_more(
    command: CommandLine, watching: list[Watched], store: neardict.Store, tmp_path: Path
) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text('default = "memory"\n[backends.memory]\nimplementation = "memory"\n')
    with (
        Served("--config", config, "--data", tmp_path / "data") as served,
        neardict.connect(served.address) as store,
    ):
        watched = start(CommandLine(served.address), watching, "d", "--from-revision", "1")
        _until_printed(watched, lambda: store.set_value("d", "k", 1))
        code, err = watched.end()
    assert (code, err.count("\n")) == (130, 1)
    assert "the service does not know all earlier changes of d any more" in err


def _until_printed(watched: Watched, write: Any) -> None:
    """Writes until a line tells of it, since nothing says when the first stream has begun."""
    assert watched.process.stdout is not None
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        write()
        if select.select([watched.process.stdout], [], [], 0.1)[0]:
            watched.lines(1)
            return
    raise AssertionError("nothing was printed")


def test_goes_on_without_a_gap_when_a_killed_service_is_back(watching: list[Watched], tmp_path: Path) -> None:
    served = Served("--data", tmp_path / "data")
    with served, neardict.connect(served.address) as store:
        first = store.set_value("d", "before", 0)
        watched = start(CommandLine(served.address), watching, "d", "--from-revision", str(first))
        store.set_value("d", "a", 1)
        assert [line["key"] for line in watched.lines(1)] == ["a"]
        served.kill()
        with Served("--data", tmp_path / "data", "--listen", served.address):
            store.set_value("d", "b", 2)
            assert [line["key"] for line in watched.lines(1)] == ["b"]
            assert watched.process.stderr is not None
            said = [watched.process.stderr.readline().decode() for _ in range(2)]
            assert watched.end() == (130, "")
    assert said[0].startswith("neardict: cannot reach neardict at ")
    assert said[1] == "neardict: watching d again; no change is missing\n"


def test_ends_quietly_when_its_reader_goes_away_though_nothing_changes(
    command: CommandLine, watching: list[Watched], store: neardict.Store, domain: str
) -> None:
    first = store.set_value(domain, "before", 1)
    store.set_value(domain, "k", 1)
    watched = start(command, watching, domain, "--from-revision", str(first))
    watched.lines(1)
    assert watched.process.stdout is not None
    watched.process.stdout.close()
    assert watched.process.wait(SECONDS) == 141
    assert watched.process.stderr is not None
    assert watched.process.stderr.read() == b""


def test_what_cannot_be_watched_ends_it_with_the_reason(command: CommandLine, tmp_path: Path) -> None:
    refused = command("watch", "x" * 300)
    assert (refused.code, refused.out) == (4, b"")
    assert refused.err.startswith("neardict: ")
    nobody = CommandLine("127.0.0.1:1")("watch", "d", "--timeout", "500ms")
    assert (nobody.code, nobody.out) == (5, b"")


def test_a_person_sees_a_line_for_each_change_and_nothing_stored_commands_the_terminal(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    first = store.set_value(domain, "before", 1)
    ours, its = pty.openpty()
    arguments = ["watch", domain, "--values", "--from-revision", str(first)]
    started = subprocess.Popen([NEARDICT, *arguments], stdin=its, stdout=its, stderr=its, env=command.env({}))
    with ended(started) as process:
        os.close(its)
        store.set_value(domain, EVIL, [EVIL])
        store.set_value(domain, "long", "x" * 3000)
        store.delete_key(domain, EVIL)
        seen = b""
        deadline = time.monotonic() + SECONDS
        while b"delete  " not in seen:
            ready, _, _ = select.select([ours], [], [], deadline - time.monotonic())
            assert ready, seen
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        os.close(ours)
    text = seen.decode()
    assert "owned" in text
    assert not {c for c in text.replace("\x1b[2m", "").replace("\x1b[0m", "") if not c.isprintable()} - {
        "\r",
        "\n",
    }
    long = next(line for line in text.splitlines() if "long" in line)
    assert (len(long), long[-1]) == (80, "…")
