"""The command `make bench`."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from . import leases, report, watch
from .backends import NAMES
from .collect import Size, collect

PAGE = Path("docs/performance.md")

FULL = Size(rounds=7, many=(800, 128), one=(250, 50), repeats=100, look_ups=50_000)
QUICK = Size(rounds=1, many=(128, 64), one=(40, 5), repeats=10, look_ups=10_000)


def main() -> int:
    """Returns 0 if everything asked for was measured, else 1."""
    options = _options()
    complete = True
    for part in options.part or PARTS:
        load_before = os.getloadavg()[0]
        tables, failures = PARTS[part](options)
        text = "\n\n".join(
            [report.surroundings(_command(options), (load_before, os.getloadavg()[0])), tables]
        )
        print(text)
        for name, reason in failures.items():
            print(f"\nbench: {name} was not measured: {reason}", file=sys.stderr)
        if failures:
            complete = False
        elif options.write is not None:
            report.write(options.write, part, text)
            _progress(f"written to {options.write}")
    return 0 if complete else 1


# What is measured of each part: its tables, and the reasons by name for what was not.


def _operations(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    results = collect(options.only or NAMES, QUICK if options.quick else FULL, _progress)
    return report.tables(results.figures, results.failures, results.hits), results.failures


def _watch(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = watch.QUICK if options.quick else watch.Size()
    return report.watch_tables(watch.collect(size, _progress)), {}


def _leases(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    size = leases.QUICK if options.quick else leases.Size()
    return report.lease_tables(leases.collect(size, _progress)), {}


PARTS = {"operations": _operations, "watch": _watch, "leases": _leases}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the operations against a bare grpcio echo, the stream of changes, and leases.",
    )
    parser.add_argument("--quick", action="store_true", help="a short form, to see that it works")
    parser.add_argument("--part", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="the operations of this backend; may be repeated"
    )
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=PAGE,
        metavar="FILE",
        help=f"put the figures into the marked part of this page too, by default {PAGE}",
    )
    options = parser.parse_args()
    # Now, and not when all is measured.
    for part in options.part or PARTS if options.write is not None else ():
        if not report.has_marks(options.write, part):
            parser.error(f"{options.write} has no lines {report.marks(part)} to write between")
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
