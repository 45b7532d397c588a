"""CI fails when a ratio has fallen by half, and only then."""

from pathlib import Path

import pytest
from bench.floors import Floor, MissingPeerError, Row
from bench.measures.catalogue import Measure
from bench.measures.size import Size
from bench.turns import take_turns

from bench import ratios


def row(name: str, *values: float, less: bool = False) -> Row:
    return Row(name, f"title of {name}", "", "", list(values), Floor(1.0, most=less))


def faults(path: Path, *answers: list[Row]) -> list[str]:
    """Returns what the check says of one measure that gives these rows, one after the other."""
    each = iter(answers)
    return ratios.check(path, lambda text: None, [Measure("measure", lambda size: next(each))])


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "ratios.toml"
    # `hit` says how many times as long ours takes.
    ratios.write([row("async_gets", 10, 20, 90), row("hit", 2.0, less=True), row("other", 5)], path)
    return path


def test_what_is_recorded_is_the_median_such_that_more_is_better(recorded: Path) -> None:
    lines = [line for line in recorded.read_text().splitlines() if not line.startswith("#")]
    assert lines == ["hit = 0.5", "async_gets = 20"]


def test_more_than_half_passes(recorded: Path) -> None:
    assert faults(recorded, [row("async_gets", 10.1), row("hit", 3.9, less=True)]) == []


@pytest.mark.parametrize("fallen", [row("async_gets", 1, 10, 99), row("hit", 4.0, less=True)])
def test_half_fails_when_it_is_seen_each_time(recorded: Path, fallen: Row) -> None:
    (fault,) = faults(recorded, *[[fallen]] * ratios.TRIES)
    assert fault.startswith(f"title of {fallen.name}: ")


def test_half_passes_when_it_was_something_else_that_was_at_work(recorded: Path) -> None:
    assert faults(recorded, [row("async_gets", 10)], [row("async_gets", 9)], [row("async_gets", 19)]) == []


def test_what_is_not_recorded_fails(recorded: Path) -> None:
    (fault,) = faults(recorded, *[[row("new", 10)]] * ratios.TRIES)
    assert "run make bench" in fault


def test_what_cannot_be_measured_fails(recorded: Path) -> None:
    def missing(size: Size) -> list[Row]:
        raise MissingPeerError("it is not installed")

    (fault,) = ratios.check(recorded, lambda text: None, [Measure("measure", missing)])
    assert fault == "measure: not measured: it is not installed"


def test_the_ratios_that_are_checked_are_recorded() -> None:
    recorded = ratios.PATH.read_text(encoding="utf-8")
    assert [line.partition(" =")[0] for line in recorded.splitlines() if "=" in line] == list(ratios.NAMES)


def test_a_ratio_is_to_the_mean_of_the_peers_runs_around() -> None:
    # The first of each warms up.
    ours = iter([0, 30.0, 50.0])
    peer = iter([0, 1.0, 5.0, 15.0])
    turns = take_turns(lambda: next(ours), lambda: next(peer), rounds=2)
    assert turns.ratios == [10.0, 5.0]
    assert turns.inverse == [0.1, 0.2]
