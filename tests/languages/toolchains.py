"""The tools of other languages, as these tests call them."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
# buf comes with the development dependencies, beside this Python.
BUF = Path(sysconfig.get_path("scripts"), "buf")
# The first run downloads and compiles what each language's own caches keep for the next.
SECONDS = 240


def needed(*commands: str) -> None:
    """Skips the test, saying what to install, where a command is missing."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} on PATH: install it to run this test")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Returns what the command printed; fails the test, with all of its output, if it exits non-zero."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        # One C compiler less to depend on, and the result runs anywhere.
        env=os.environ | {"CGO_ENABLED": "0"} | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(map(str, command))
        pytest.fail(f"`{words}` exited {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
