"""`make soak` puts its figures into a page, and ends with 1 if something was broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from coherence import page
from coherence.running import environment


def soak(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "coherence",
        "--backend",
        "memory",
        "--clients",
        "2",
        "--seed",
        "7",
        *map(str, options),
    ]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n")
    return path


def test_figures_are_put_between_the_marks(marked: Path) -> None:
    done = soak("--seconds", "6", "--faults", "reset", "--write", marked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed 7\n")
    text = marked.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "`, seed 7, on one machine" in text
    assert "| violations of all rules | **0** |" in text
    assert "| reset |" in text


def test_what_was_broken_is_in_the_page_and_in_the_exit_code(marked: Path) -> None:
    done = soak("--seconds", "60", "--faults", "--mistake", "lose_a_write", "--write", marked)
    assert done.returncode == 1
    assert "VIOLATION " in done.stderr
    assert "| violations of all rules | **0** |" not in marked.read_text()


def test_a_page_without_marks_is_refused_before_it_takes_minutes(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("nothing")
    done = soak("--write", path)
    assert done.returncode == 2
    assert page.BEGIN in done.stderr
    assert path.read_text() == "nothing"
