"""Words the figures of operations, streams and leases as markdown."""

import statistics
from collections.abc import Iterable, Mapping

from . import leases
from .compare import ECHO, Figure, Row
from .hit import Hit
from .lag import percentile
from .operations import KEYS
from .watch import BESIDE, CALLERS, Results


def tables(figures: Mapping[Row, Figure], failures: Mapping[str, str], hits: Iterable[Hit]) -> str:
    """Returns a table for each way of calling, and one for the hits."""
    parts = [
        _way(way, {row: figure for row, figure in figures.items() if row.way == way})
        for way in dict.fromkeys(row.way for row in figures)
    ]
    parts += [f"`{name}` was **not measured**: {reason}" for name, reason in failures.items()]
    parts.append(_hits(hits))
    return "\n\n".join(parts)


def watch_tables(results: Results) -> str:
    """Returns tables of the lags, of what the streams take, and of one who does not read."""
    return "\n\n".join([_lags(results), _facts(results), _stuck(results)])


def lease_tables(results: leases.Results) -> str:
    """Returns tables of writes that wait for holders, and of the hits."""
    lines = [
        "### A write while processes hold linearizable dicts of its domain",
        "",
        "| holders | p50 ms | p99 ms | p50 / without holders | spread |",
        "|---|---:|---:|---:|---:|",
    ]
    free = [time for writes in results.writes for times in writes.free for time in times]
    lines.append(f"| none | {_percentile_ms(free, 50)} | {_percentile_ms(free, 99)} | 1 | |")
    for writes in results.writes:
        leased = [time for times in writes.leased for time in times]
        lines.append(
            f"| {writes.holders} | {_percentile_ms(leased, 50)} | {_percentile_ms(leased, 99)} "
            f"| **{statistics.median(writes.ratios()):.1f}** | {_spread(writes.ratios())} |"
        )
    lines += ["", f"After the only holder was killed (-9), the next write took {results.killed:.2f} s."]
    return "\n".join([*lines, "", _hits(results.hits, "on a linearizable mirror", "A hit under a lease")])


def _way(way: str, figures: Mapping[Row, Figure]) -> str:
    lines = [
        f"### {way}",
        "",
        "| backend | operation | calls/s | of the echo | spread | p50 ms | p99 ms |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row, figure in figures.items():
        if row.backend == ECHO:
            name, ratio, spread = (
                "bare grpcio echo",
                "1",
                _spread([rate / figure.rate for rate in figure.rates]),
            )
        else:
            name, ratio, spread = row.operation, f"**{figure.ratio:.2f}**", _spread(figure.ratios)
        rate = f"{figure.rate:,.0f}"
        if row.operation == "AllKeys" and row.backend != "null":
            rate += f" ({figure.rate * KEYS / 1000:,.0f}k keys/s)"
        lines.append(
            f"| {'' if row.backend == ECHO else row.backend} | {name} | {rate} | {ratio} | {spread} "
            f"| {figure.percentile(50):.2f} | {figure.percentile(99):.2f} |"
        )
    return "\n".join(lines)


def _percentile_ms(times: list[float], percent: int) -> str:
    return f"{percentile(times, percent):.2f}"


def _hits(
    hits: Iterable[Hit], which: str = "on a mirror", title: str = "A cached hit against a plain dict"
) -> str:
    lines = [
        f"### {title}",
        "",
        f"| {which} | plain ns | neardict ns | ratio of the least | median ratio | middle half |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {hit.title} | {min(hit.plain):.1f} | {min(hit.near):.1f} | **{hit.ratio:.2f}** "
        f"| {hit.median_ratio:.2f} | {_spread(_middle(hit.ratios))} |"
        for hit in hits
    ]
    return "\n".join(lines)


def _lags(results: Results) -> str:
    lines = [
        "### From a write to those who watch",
        "",
        "| listeners | backend | writes/s | p50 ms | p99 ms | p50 / unary | p99 / unary "
        "| after the answer, p50 ms | p99 ms |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in results.runs:
        begun, answered = (
            [f"{percentile(times, percent) / 1e6:.2f}" for percent in (50, 99)]
            for times in (run.lag.begun, run.lag.acknowledged)
        )
        lines.append(
            f"| {run.title} | {run.backend} | {run.lag.rate:,.0f} | {begun[0]} | {begun[1]} "
            f"| **{run.lag.multiple(50):.1f}** | **{run.lag.multiple(99):.1f}** "
            f"| {answered[0]} | {answered[1]} |"
        )
    return "\n".join(lines)


def _facts(results: Results) -> str:
    lines = ["### What the streams take", "", "| what | figure |", "|---|---:|"]
    lines += [f"| {title} | {figure} |" for title, figure in results.facts]
    return "\n".join(lines)


def _stuck(results: Results) -> str:
    stuck = results.stuck
    lag = f"ms of the others' lag at {results.size.rates[0]:,} writes/s"
    lines = [
        f"### One of {BESIDE + 1} watchers does not read",
        "",
        "| median of the rounds | he reads | he does not | ratio | spread |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, pair, digits in (
        (f"writes/s of {CALLERS} concurrent callers", stuck.rates, 0),
        (f"p50 {lag}", stuck.p50, 2),
        (f"p99 {lag}", stuck.p99, 2),
    ):
        reads, does_not = (f"{statistics.median(figures):,.{digits}f}" for figures in pair)
        ratios = [stopped / going for going, stopped in zip(*pair, strict=True)]
        lines.append(
            f"| {title} | {reads} | {does_not} | **{statistics.median(ratios):.2f}** | {_spread(ratios)} |"
        )
    return "\n".join(lines)


def _spread(ratios: list[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _middle(ratios: list[float]) -> list[float]:
    """Returns the half between the quartiles, for what is repeated so often that something odd befalls it."""
    quarter = len(ratios) // 4
    return sorted(ratios)[quarter : len(ratios) - quarter]
