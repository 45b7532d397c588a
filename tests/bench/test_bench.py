"""The benchmark runs, and what it writes is complete. How fast anything was is no matter for a test."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BACKENDS = ("sqlite", "json", "memory", "null", "redis")
OPERATIONS = ("GetValue", "SetValue", "AllKeys", "DeleteKey")
WAYS = 3

# One worker, so that the benchmark runs once.
pytestmark = [pytest.mark.xdist_group("bench"), pytest.mark.timeout(240)]


Bench = Callable[[str], tuple[str, Path]]


@pytest.fixture(scope="module")
def page(bench: Bench) -> str:
    return bench("operations")[0]


@pytest.fixture(scope="module")
def watch(bench: Bench) -> str:
    return bench("watch")[0]


@pytest.fixture(scope="module")
def leases(bench: Bench) -> str:
    return bench("leases")[0]


def test_writes_with_holders_stand_beside_writes_without(leases: str) -> None:
    rows = re.findall(
        r"^\| (\w+) \| \d+\.\d\d \| \d+\.\d\d \| (?:1|\*\*\d+\.\d\*\*) \|", leases, re.MULTILINE
    )
    assert rows == ["none", "2"]
    assert re.search(r"the next write took \d\.\d\d s", leases)
    assert "| `d[k]`, all keys in random order |" in leases


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_operation_of_each_backend_has_a_rate_and_a_ratio_to_the_echo_in_each_way(
    page: str, backend: str, operation: str
) -> None:
    rows = re.findall(
        rf"^\| {backend} \| {operation} \| [\d,]+(?: \(.*\))? \| \*\*\d+\.\d\d\*\* \| "
        r"\d+\.\d\d to \d+\.\d\d \| \d+\.\d\d \| \d+\.\d\d \|$",
        page,
        re.MULTILINE,
    )
    assert len(rows) == WAYS


def test_the_echo_of_each_way_stands_beside_them(page: str) -> None:
    assert len(re.findall(r"^\| +\| bare grpcio echo \| [\d,]+ \| 1 \|", page, re.MULTILINE)) == WAYS


def test_a_cached_hit_stands_beside_a_plain_dict(page: str) -> None:
    hits = page.partition("### A cached hit")[2]
    rows = re.findall(r"^\| (.*) \| \d+\.\d \| \d+\.\d \| \*\*\d+\.\d\d\*\* \|", hits, re.MULTILINE)
    assert [row.partition(",")[0] for row in rows] == [
        "`d[k]`",
        "`d[k]`",
        "`k in d`",
        "`d.get(k)`",
        "`for k in d`",
        "`for k",
    ]


def test_the_page_says_what_machine_and_versions_it_was(page: str) -> None:
    assert re.search(r"`make bench ARGS=.*`, on one machine: .*; Python \S+, grpcio \S+, ", page)


@pytest.mark.parametrize(
    "row",
    [
        r"20 watchers of a domain \| memory",
        r"50 domains on a stream \| memory",
        r"a mirror in another process \| memory",
        r"a mirror in another process \| sqlite",
    ],
)
def test_each_way_to_be_told_has_a_lag_and_its_multiple_of_a_unary_call(watch: str, row: str) -> None:
    ms, multiple = r"-?\d+\.\d\d", r"\*\*\d+\.\d\*\*"
    pattern = rf"^\| {row} \| \d+ \| {ms} \| {ms} \| {multiple} \| {multiple} \| {ms} \| {ms} \|$"
    assert re.search(pattern, watch, re.MULTILINE)


def test_memory_processor_and_time_of_streams_are_there(watch: str) -> None:
    facts = watch.partition("### What the streams take")[2].partition("###")[0]
    assert (
        len(re.findall(r"^\| .* \| [\d.]+(?: KiB|% of a core| microseconds| s)\b", facts, re.MULTILINE)) == 9
    )


def test_one_who_does_not_read_stands_beside_one_who_does(watch: str) -> None:
    rows = watch.partition("### One of 21 watchers does not read")[2]
    assert len(re.findall(r"\*\*\d+\.\d\d\*\* \| \d+\.\d\d to \d+\.\d\d \|$", rows, re.MULTILINE)) == 3


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", "null", "--write", page],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, "has no lines" in done.stderr) == (2, True)
    assert page.read_text() == "no marks"
