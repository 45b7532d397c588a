"""Type checkers pass a sample program, but for its mistakes, and these they find."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neardict

SAMPLE = Path(__file__).with_name("sample.py.txt")
MISTAKES = {number for number, line in enumerate(SAMPLE.read_text().splitlines(), 1) if line.endswith("# E")}
SOURCES = Path(neardict.__file__).parents[1]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(shutil.copy(SAMPLE, tmp_path / "sample.py"))


def test_mypy_finds_each_mistake_and_no_other(program: Path) -> None:
    options = ["--strict", "--no-color", "--no-error-summary", "--no-incremental", "--config-file="]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, program.name],
        cwd=program.parent,
        env={**os.environ, "MYPYPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    found = re.findall(r"^(\S+?):(\d+): error", checked.stdout, re.MULTILINE)
    assert {name for name, _ in found} == {"sample.py"}, checked.stdout + checked.stderr
    assert {int(number) for _, number in found} == MISTAKES, checked.stdout


@pytest.mark.parametrize("checker", ["pyright", "basedpyright"])
def test_pyright_finds_each_mistake_and_no_other(program: Path, checker: str) -> None:
    command = shutil.which(checker)
    if command is None:
        pytest.skip(f"{checker} is not installed")
    (program.parent / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "include": [program.name],
                "extraPaths": [str(SOURCES), *(path for path in sys.path if "site-packages" in path)],
                "typeCheckingMode": "strict",
            }
        )
    )
    checked = subprocess.run(
        [command, "--outputjson", "-p", "."],
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    found = json.loads(checked.stdout)["generalDiagnostics"]
    errors = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert errors == MISTAKES, [one["message"] for one in found]
