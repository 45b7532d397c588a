"""Draws sweeps as SVG, the same for the same figures, and words them as tables."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from .series import Series, Sweep

# Identifiers that do not differ from one run to the next, and text that is text.
_STYLE: Any = {
    "svg.hashsalt": "neardict",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
}
_MARKERS = "osD^vPX*"


def draw(sweep: Sweep, folder: Path) -> Path:
    """Writes the plot, medians with the least and the greatest round as a band; returns its file."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 3.8), layout="constrained")
        axes = figure.subplots()
        places = sweep.places
        for series, marker in zip(sweep.series, _MARKERS, strict=False):
            at = [places.index(where) for where in series.points]
            (line,) = axes.plot(
                at, [series.median(where) for where in series.points], marker=marker, label=series.title
            )
            axes.fill_between(
                at,
                [min(figures) for figures in series.points.values()],
                [max(figures) for figures in series.points.values()],
                color=line.get_color(),
                alpha=0.15,
                linewidth=0,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(range(len(places)), places)
        axes.set_xlabel(sweep.along)
        axes.set_ylabel(sweep.figure)
        axes.set_title(sweep.title, fontsize=10)
        axes.grid(visible=True, which="both", linewidth=0.3)
        figure.legend(loc="outside right upper", frameon=False)
        folder.mkdir(exist_ok=True)
        path = folder / f"{sweep.name}.svg"
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path


def section(sweep: Sweep, page: Path) -> str:
    """Returns the plot, whose file `draw` put beside the page, and its figures as a table."""
    places = sweep.places
    lines = [
        f"### {sweep.title}",
        "",
        f"![{sweep.title}]({page.stem}/{sweep.name}.svg)",
        "",
        f"| {sweep.figure}, by {sweep.along} | {' | '.join(places)} |",
        f"|---|{'---:|' * len(places)}",
    ]
    lines += [f"| {series.title} | {' | '.join(_cells(series, places))} |" for series in sweep.series]
    return "\n".join(lines)


def _cells(series: Series, places: Iterable[str]) -> list[str]:
    return [_number(series.median(where)) if where in series.points else "" for where in places]


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
