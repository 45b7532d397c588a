"""An import that was stopped goes on where it was, from a seed."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import neardict
from command_line import CommandLine
from processes import ended
from served import Served
from waiting import DEADLINE_SECONDS

COUNT = 2500
SECONDS = DEADLINE_SECONDS

# They share a folder that takes seconds to make.
pytestmark = pytest.mark.xdist_group("import resumes")


def value(number: int) -> dict[str, object]:
    return {"number": number, "text": "x" * 50}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for number in range(COUNT):
        folder = root / f"service_1/channel_{number % 3}/scores"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"user {number}.json").write_text(json.dumps(value(number), indent=2))
    return root


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served("--data", tmp_path / "data") as server:
        yield server


def entries(store: neardict.Store) -> dict[str, neardict.Entry]:
    domains = [f"service_1.channel_{n}.scores" for n in range(3)]
    return {entry.key: entry for domain in domains for entry in store.all_entries(domain)}


@contextmanager
def start_and_wait_for(
    command: CommandLine, root: Path, store: neardict.Store, count: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts an import and yields it when so many entries are there, or it has ended."""
    with ended(command.start("import", root)) as process:
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and len(entries(store)) < count:
            assert time.monotonic() < deadline, "the import makes no progress"
            time.sleep(0.02)
        yield process


def test_an_import_that_is_killed_goes_on_and_overwrites_nothing(served: Served, root: Path) -> None:
    chance = random.Random(20261123)
    command = CommandLine(served.address)
    with neardict.connect(served.address) as store:
        before: dict[str, neardict.Entry] = {}
        changed = {}
        for _ in range(3):
            more = chance.randint(50, COUNT // 10)
            with start_and_wait_for(command, root, store, len(before) + more) as process:
                process.kill()
            now = entries(store)
            assert len(before) < len(now) < COUNT
            assert {key: now[key] for key in before} == before, "what was done was done again"
            for number in chance.sample(range(COUNT), 5):
                domain, key = f"service_1.channel_{number % 3}.scores", f"user {number}"
                store.set_value(domain, key, "written meanwhile")
                changed[key] = number
            before = entries(store)
        done = command("import", root)
        assert done.code == 3
        assert done.line["kept"] == len(changed)
        assert done.line["present"] == len(before) - len(changed)
        assert done.line["imported"] == COUNT - len(before)
        now = entries(store)
        assert {key: now[key] for key in before} == before
        assert {key: entry.value for key, entry in now.items()} == {
            f"user {n}": "written meanwhile" if f"user {n}" in changed else value(n) for n in range(COUNT)
        }


def test_an_import_stops_with_the_service_and_goes_on_when_it_is_back(served: Served, root: Path) -> None:
    with (
        neardict.connect(served.address) as store,
        start_and_wait_for(CommandLine(served.address), root, store, COUNT // 4) as process,
    ):
        served.kill()
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 5
    summary = json.loads(out)
    assert 0 < summary["imported"] < COUNT
    assert summary["refused"] == 0
    assert b"start it again" in err
    served.start()
    done = CommandLine(served.address)("import", root)
    assert done.code == 0
    assert done.line["present"] >= summary["imported"], "something that was acknowledged is not there"
    assert done.line["present"] + done.line["imported"] == COUNT


def test_an_import_that_is_interrupted_tells_how_far_it_came(served: Served, root: Path) -> None:
    with (
        neardict.connect(served.address) as store,
        start_and_wait_for(CommandLine(served.address), root, store, COUNT // 20) as process,
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert 0 < json.loads(out)["imported"] < COUNT
    assert b"start it again" in err
    assert b"Traceback" not in err
