"""Every command and snippet of README and docs is run here.

A comment before a block tells what to do with it, where running it as it stands is not the way:
`<!-- not run: REASON -->`, `<!-- pytest -->` for a test module, `<!-- serves -->` for a command that
serves until it is stopped. Python blocks of one page run as one program, shell blocks from the top of
the project, both against a service of their own; TOML blocks are given to the server's configuration.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from neardict_server.config import load
from served import Served

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SECONDS = 60


class Block(NamedTuple):
    kind: str
    how: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(m["kind"], m["how"] or "", m["text"]) for m in BLOCK.finditer(page.read_text())]


def run(command: list[str], folder: Path, **env: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with Served("--data", tmp_path / "data") as served:
        yield served


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_followed(page: Path, server: Served, tmp_path: Path) -> None:
    todo = [block for block in blocks(page) if not block.how.startswith("not run: ")]
    program = "".join(block.text for block in todo if block.kind == "python" and not block.how)
    if program:
        run([sys.executable, "-W", "error", "-c", program], tmp_path, NEARDICT_TARGET=server.address)
    for number, block in enumerate(todo):
        if block.how == "pytest":
            module = tmp_path / f"test_block_{number}.py"
            module.write_text(block.text)
            options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
            run([sys.executable, "-m", "pytest", *options, str(module)], tmp_path)
        elif block.how == "serves":
            serve(block.text, tmp_path)
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
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("listening on 127.0.0.1:") for line in lines)
        os.killpg(process.pid, 15)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
