"""The command `make bench`."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from . import report
from .backends import NAMES
from .collect import Size, collect

PAGE = Path("docs/performance.md")

FULL = Size(rounds=7, many=(800, 128), one=(250, 50), repeats=100, look_ups=50_000)
QUICK = Size(rounds=1, many=(128, 64), one=(40, 5), repeats=10, look_ups=10_000)


def main() -> int:
    """Returns 0 if everything asked for was measured, else 1."""
    options = _options()
    load_before = os.getloadavg()[0]
    results = collect(options.only or NAMES, QUICK if options.quick else FULL, _progress)
    text = "\n\n".join(
        [
            report.surroundings(_command(options), (load_before, os.getloadavg()[0])),
            report.tables(results.figures, results.failures, results.hits),
        ]
    )
    print(text)
    for name, reason in results.failures.items():
        print(f"\nbench: {name} was not measured: {reason}", file=sys.stderr)
    if results.failures:
        return 1
    if options.write is not None:
        report.write(options.write, text)
        _progress(f"written to {options.write}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the four operations against a bare grpcio echo."
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--only", action="append", choices=NAMES, help="this backend; may be repeated")
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
    if options.write is not None and not report.has_marks(options.write):
        parser.error(f"{options.write} has no lines {report.BEGIN!r} and {report.END!r} to write between")
    return options


def _command(options: argparse.Namespace) -> str:
    chosen = ["--quick"] if options.quick else []
    for name in options.only or []:
        chosen += ["--only", name]
    return f'make bench ARGS="{shlex.join(chosen)}"' if chosen else "make bench"


def _progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
