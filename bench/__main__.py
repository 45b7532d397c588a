"""The command `make bench`; with --check `make bench-check`."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from . import leases, page, ratios, report, watch
from .backends import NAMES
from .collect import Size, collect
from .measures import catalogue, keys, table
from .measures import size as measures_size
from .peers.programs import versions, wanted
from .sweeps import concurrency, plots, values, watchers
from .sweeps import size as sweeps_size
from .sweeps.series import Sweep

PAGE = Path("docs/performance.md")

FULL = Size(rounds=5, many=(800, 128), one=(250, 50), repeats=100, look_ups=50_000)
QUICK = Size(rounds=1, many=(128, 64), one=(40, 5), repeats=10, look_ups=10_000)


def main() -> int:
    """Returns 0 if everything was measured for which there is a peer, else 1."""
    options = _options()
    if options.check:
        return _check()
    if missing := wanted():
        _progress(f"to measure all, apt install {' '.join(missing)}; what needs it is left out, and named")
    complete = True
    for part in options.part or PARTS:
        load_before = os.getloadavg()[0]
        tables, failures = PARTS[part](options)
        text = "\n\n".join([page.surroundings(_command(options), (load_before, os.getloadavg()[0])), tables])
        print(text)
        for name, reason in failures.items():
            print(f"\nbench: {name} was not measured: {reason}", file=sys.stderr)
        if failures:
            complete = False
        elif options.write is not None:
            page.write(options.write, part, text)
            _progress(f"written to {options.write}")
    return 0 if complete else 1


def _check() -> int:
    failures = ratios.check(ratios.PATH, _progress)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


# What is measured of each part: its tables, and the reasons by name for what failed.


def _peers(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = measures_size.QUICK if options.quick else measures_size.Size()
    results = catalogue.collect(size, _progress)
    for each in results.unmeasured:
        _progress(f"not measured: {each.title}: {each.reason}")
    text = f"{versions()}\n\n{table.tables(results)}"
    if results.costs:
        text += "\n\n" + _drawn(options, [keys.sweep(results.costs, min(size.keys))])
    failures = {each.title: each.reason for each in results.unmeasured if not each.absent}
    if not failures and not options.quick and options.write == PAGE:
        ratios.write(results.rows)
    return text, failures


def _sweeps(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = sweeps_size.QUICK if options.quick else sweeps_size.Size()
    sweeps = []
    for measure in (concurrency, values, watchers):
        _progress(f"sweeps: {measure.__name__.rpartition('.')[2]}")
        sweeps += measure.measure(size)
    return _drawn(options, sweeps), {}


def _drawn(options: argparse.Namespace, sweeps: list[Sweep]) -> str:
    """Returns the sweeps as text; draws their plots beside the page, if one is written."""
    path = options.write or PAGE
    if options.write is not None:
        for sweep in sweeps:
            plots.draw(sweep, path.parent / path.stem)
    return "\n\n".join(plots.section(sweep, path) for sweep in sweeps)


def _operations(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    results = collect(options.only or NAMES, QUICK if options.quick else FULL, _progress)
    return report.tables(results.figures, results.failures, results.hits), results.failures


def _watch(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = watch.QUICK if options.quick else watch.Size()
    return report.watch_tables(watch.collect(size, _progress)), {}


def _leases(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = leases.QUICK if options.quick else leases.Size()
    return report.lease_tables(leases.collect(size, _progress)), {}


PARTS = {
    "peers": _peers,
    "sweeps": _sweeps,
    "operations": _operations,
    "watch": _watch,
    "leases": _leases,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the service and the dict beside their peers, and write the figures into a page.",
    )
    parser.add_argument("--quick", action="store_true", help="a short form, to see that it works")
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"only see whether a ratio is half of what {ratios.PATH.name} says, or less",
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="the operations of this backend; may be repeated"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"the page to put the figures into, with the plots beside it; {PAGE} unless it is --quick",
    )
    parser.add_argument("--print", action="store_true", help="write no page")
    options = parser.parse_args()
    if options.print:
        options.write = None
    elif options.write is None and not options.quick:
        options.write = PAGE
    # Now, and not when all is measured.
    for part in options.part or PARTS if options.write is not None else ():
        if not page.has_marks(options.write, part):
            parser.error(f"{options.write} has no lines {page.marks(part)} to write between")
    return options


def _command(options: argparse.Namespace) -> str:
    chosen = ["--quick"] if options.quick else []
    for part in options.part or []:
        chosen += ["--part", part]
    for name in options.only or []:
        chosen += ["--only", name]
    return f'make bench ARGS="{shlex.join(chosen)}"' if chosen else "make bench"


def _progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
