"""Runs the benchmark in its short form, as a user does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# It takes a fifth of that where nothing else runs; it starts some thirty processes.
SECONDS = 200
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """Returns what writes a part into a copy of the page; that gives the text, and the folder of plots."""

    def written(part: str) -> tuple[str, Path]:
        page = tmp_path_factory.mktemp(part) / "performance.md"
        page.write_text((ROOT / "docs/performance.md").read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run(
            [sys.executable, "-m", "bench", "--quick", "--part", part, "--write", page],
            cwd=ROOT,
            check=True,
            timeout=SECONDS,
        )
        text = page.read_text(encoding="utf-8").partition(f"{part}: begin")[2].partition(f"{part}: end")[0]
        return text, page.parent / page.stem

    return written
