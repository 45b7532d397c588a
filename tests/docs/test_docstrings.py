"""Every example in a docstring is run here: what stands indented in one, apart from lists and tables."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from served import Served

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "client/python/neardict", ROOT / "server/neardict_server"]
SECONDS = 60

# How lines of Python begin or look, in contrast to sentences.
PYTHON = re.compile(
    r"^(?:import \w[\w., ]*|from [\w.]+ import .+|(?:async )?(?:with|for|def|class) .+:|@[\w.]+.*|>>> .+|"
    r"(?:await )?[\w.\[\]\"']+(?: = |\().*[)\]}\"'\w])$"
)

# What an example takes for granted.
GIVEN = {
    "neardict_server/testing/__init__.py": """
        import pytest
        from neardict_server.backends.base import Surroundings
        from neardict_server.backends.memory import MemoryBackend as MyBackend
        """,
}


class Example(NamedTuple):
    place: str
    code: str


def docstrings() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            if package / "v1" not in path.parents:
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                        yield str(path.relative_to(package.parent)), ast.get_docstring(node) or ""


def examples() -> Iterator[Example]:
    for place, text in docstrings():
        blocks = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*$", text, re.M)
        for code in map(textwrap.dedent, blocks):
            if any(PYTHON.match(line) for line in code.splitlines()):
                yield Example(place, code)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("--data", tmp_path_factory.mktemp("docstrings") / "data") as served:
        yield served


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.place)
def test_an_example_in_a_docstring_runs_as_it_stands(
    example: Example, server: Served, tmp_path: Path
) -> None:
    program = tmp_path / "example.py"
    program.write_text(textwrap.dedent(GIVEN.get(example.place, "")) + example.code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        env=os.environ | {"NEARDICT_TARGET": server.address},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_packages_that_people_import_have_an_example() -> None:
    places = {example.place for example in examples()}
    assert places >= {f"neardict/{folder}__init__.py" for folder in ("", "aio/", "moobius/")}


def test_no_docstring_has_code_outside_an_indented_block() -> None:
    for place, text in docstrings():
        for line in text.splitlines():
            assert not PYTHON.match(line), (place, line)
