"""Words the measures as markdown."""

from collections.abc import Sequence

from ..floors import Floor, Row, Unmeasured
from .catalogue import Results


def tables(results: Results) -> str:
    """Returns the table of what has a floor, with the floor beside, and that of the rest."""
    return "\n\n".join(
        [
            "### Measures against their floors",
            _table(results.floors, floors=True),
            "### Beside other caches, and redis-py itself",
            _table(results.others, floors=False),
        ]
    )


def _table(rows: Sequence[Row | Unmeasured], *, floors: bool) -> str:
    lines = ["| measure | neardict | peer | ratio | spread |", "|---|---:|---:|---:|---:|"]
    if floors:
        lines = [lines[0] + " floor | met |", lines[1] + "---|---|"]
    for row in rows:
        if isinstance(row, Unmeasured):
            line = f"| {row.title} | **not measured**: {_one_line(row.reason)} | | | |"
            lines.append(line + " | |" if floors else line)
            continue
        figure = [row.title, row.ours, row.peer, f"**{_number(row.value)}**", _spread(row.values)]
        if floors:
            figure += [_floor(row.floor), {True: "yes", False: "**no**", None: ""}[row.met]]
        lines.append(f"| {' | '.join(figure)} |")
    return "\n".join(lines)


def _floor(floor: Floor | None) -> str:
    if floor is None:
        return ""
    return f"{'at most' if floor.most else 'at least'} {floor.bound:,.12g}{floor.unit}"


def _spread(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _one_line(reason: str) -> str:
    """Returns the reason without what would end a cell of the table; all of it goes to stderr."""
    return reason.partition("\n")[0].replace("|", "\\|")
