"""Starts servers that must not start."""

import os
import subprocess
import sys
from pathlib import Path

from served import START_SECONDS


def start_and_fail(*args: str | Path, env: dict[str, str] | None = None) -> str:
    """Runs `neardict serve ARGS`, which must end by itself with an error; returns what it said."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NEARDICT_")}
    done = subprocess.run(
        [sys.executable, "-m", "neardict_server", "--listen", "127.0.0.1:0", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        env=own | (env or {}),
        check=False,
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr
