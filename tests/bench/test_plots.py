"""Plots are SVG that changes with the figures and with nothing else."""

from pathlib import Path

from bench.sweeps import plots
from bench.sweeps.series import Series, Sweep


def sweep(figure: float) -> Sweep:
    lines = [Series("ours", {"1": [1.0, 2.0, 9.0], "64": [figure]}), Series("peer", {"64": [3.0]})]
    return Sweep("some", "Some title", "tasks", "gets/s", lines)


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    first, again, other = (
        plots.draw(sweep(figure), tmp_path / name).read_bytes()
        for figure, name in ((5.0, "first"), (5.0, "again"), (6.0, "other"))
    )
    assert first == again
    assert first != other
    for text in (b"Some title", b"ours", b"peer", b"tasks", b"gets/s"):
        assert text in first


def test_a_plot_stands_above_the_medians_it_is_drawn_from() -> None:
    assert plots.section(sweep(1234.5), Path("docs/performance.md")).splitlines() == [
        "### Some title",
        "",
        "![Some title](performance/some.svg)",
        "",
        "| gets/s, by tasks | 1 | 64 |",
        "|---|---:|---:|",
        "| ours | 2 | 1,234 |",
        "| peer |  | 3 |",
    ]
