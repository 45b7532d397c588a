"""The suite itself: it leaves nothing behind, and can run in the background."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SECONDS = 100


def run(folder: Path, test: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on a test in a folder of its own, as these tests are run."""
    (folder / "temporary").mkdir(parents=True)
    (folder / "conftest.py").write_text("import left_over\n\npytest_configure = left_over.watch\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(textwrap.dedent(test))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TESTS), "TMPDIR": str(folder / "temporary")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "2"]], ids=["alone", "distributed"])
def test_a_run_that_leaves_a_process_and_a_folder_fails_and_ends_the_process(
    tmp_path: Path, options: list[str]
) -> None:
    done = run(
        tmp_path,
        """
        import subprocess, tempfile

        def test_it(tmp_path):
            command = 'sleep 300 > /dev/null & echo "the child is $!"'
            print(subprocess.run(["sh", "-c", command], text=True, stdout=subprocess.PIPE).stdout)
            tempfile.mkdtemp(prefix="forgotten-")
        """,
        *options,
        "-rP",
    )
    assert done.returncode == 1, done.stdout
    assert "1 passed" in done.stdout
    pid = int(re.findall(r"the child is (\d+)", done.stdout)[0])
    assert f"the process {pid}: sleep 300\n" in done.stdout
    (folder,) = re.findall(r"the temporary files of this run are in (\S+)", done.stdout)
    assert f"{folder}/forgotten-" in done.stdout
    # Nobody has to reap a process whose parent has gone, so it may remain as a zombie.
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "2"]], ids=["alone", "distributed"])
def test_a_run_that_leaves_nothing_passes_and_takes_its_folder_with_it(
    tmp_path: Path, options: list[str]
) -> None:
    done = run(
        tmp_path,
        """
        import multiprocessing, subprocess, sys, tempfile

        def test_it(tmp_path):
            (tmp_path / "kept until the end").write_text("x")
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            lock = multiprocessing.get_context("spawn").Lock()  # which starts a process of Python's own
            with tempfile.TemporaryDirectory():
                pass
        """,
        *options,
    )
    assert done.returncode == 0, done.stdout
    assert "left behind" not in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_ctrl_c_reaches_a_test_and_what_it_starts() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    program = "import signal; signal.raise_signal(signal.SIGINT)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=SECONDS)
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "2"]], ids=["alone", "distributed"])
def test_ctrl_c_reaches_tests_also_where_it_is_ignored_in_the_background(options: list[str]) -> None:
    this = f"{__file__}::{test_ctrl_c_reaches_a_test_and_what_it_starts.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, this]
    # As a shell does with a command before `&`.
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    done = subprocess.run(
        ignoring, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout
