"""Every command and snippet of README and docs is run here.

A comment before a block tells what to do with it, where running it as it stands is not the way:
`<!-- not run: REASON -->`, `<!-- pytest -->` for a test module, `<!-- serves -->` for a command that
serves until it is stopped, `<!-- a moment later -->` for Python that may have to be repeated until it works.
Blocks run in the order of the page: Python ones in one interpreter, shell blocks from the top of the
project, both against a service of their own; TOML blocks are given to the server's configuration.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from neardict_server.config import load
from processes import ended
from served import Served

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SECONDS = 60
MOMENT_SECONDS = 10.0

# Runs the blocks that come as lines of JSON, as a person would type them; says of each what it raised.
# What they print goes where errors go, which pytest shows if the test fails.
INTERPRETER = """
import json, sys, traceback
sys.stdout = sys.stderr
for _line in sys.stdin:
    try:
        exec(json.loads(_line), globals())
        _raised = ""
    except BaseException:
        _raised = traceback.format_exc()
    print(json.dumps(_raised), file=sys.__stdout__, flush=True)
"""


class Block(NamedTuple):
    kind: str
    how: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(m["kind"], m["how"] or "", m["text"]) for m in BLOCK.finditer(page.read_text())]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def run(command: list[str], folder: Path, **env: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


class Interpreter:
    """A Python process that stays open from the page's first block to its last."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", INTERPRETER],
            cwd=folder,
            env=environment(**env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, block: str, *, patience: float = 0.0) -> None:
        """Runs a block, again and again while it raises and there is patience left, in seconds."""
        deadline = time.monotonic() + patience
        while raised := self._raised(block):
            assert time.monotonic() < deadline, raised

    def close(self) -> None:
        """Ends the program as its author would."""
        try:
            self._process.communicate(timeout=SECONDS)
        finally:
            self._process.kill()
        assert self._process.returncode == 0

    def _raised(self, block: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(block), file=self._process.stdin, flush=True)
        raised: str = json.loads(self._process.stdout.readline())
        return raised


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with Served("--data", tmp_path / "data") as served:
        yield served


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_followed(page: Path, server: Served, tmp_path: Path) -> None:
    todo = [block for block in blocks(page) if not block.how.startswith("not run: ")]
    with contextlib.ExitStack() as opened:
        interpreter: Interpreter | None = None
        for number, block in enumerate(todo):
            if block.how == "pytest":
                module = tmp_path / f"test_block_{number}.py"
                module.write_text(block.text)
                options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
                run([sys.executable, "-m", "pytest", *options, str(module)], tmp_path)
            elif block.how == "serves":
                serve(block.text, tmp_path)
            elif block.kind == "python":
                if interpreter is None:
                    interpreter = Interpreter(tmp_path, NEARDICT_TARGET=server.address)
                    opened.callback(interpreter.close)
                interpreter.run(block.text, patience=MOMENT_SECONDS if block.how == "a moment later" else 0)
            elif block.kind == "sh":
                env = {"NEARDICT_TARGET": server.address, "TMPDIR": str(tmp_path)}
                run(["bash", "-euo", "pipefail", "-c", block.text], ROOT, **env)
            elif block.kind == "toml" and "entry-points" not in block.text:
                file = tmp_path / "neardict.toml"
                file.write_text(block.text)
                load(file)


def serve(command: str, folder: Path) -> None:
    """Runs a command that serves, until it says that it listens, and stops it."""
    env = {"NEARDICT_LISTEN": "127.0.0.1:0", "NEARDICT_DATA_DIR": str(folder / "served")}
    env |= {"MAKEFLAGS": "", "ARGS": ""}  # what `make test` was given is not for the `make` that is run here
    started = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=ROOT,
        env=environment(**env),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ended(started) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        try:
            assert any(line.startswith("listening on 127.0.0.1:") for line in lines)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
