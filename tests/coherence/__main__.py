"""The command `make soak`: by default 20 minutes, shared by the backends; from a seed, which it prints."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from pathlib import Path

from coherence import figures, page, soak
from coherence.client_mutants import CLIENT_MISTAKES
from coherence.engines import ENGINES
from coherence.mutants import MISTAKES
from coherence.schedule import KINDS
from coherence.workload import LINEARIZABLE

BACKENDS = ["sqlite", "json", "memory", *ENGINES]
# Those whose dicts may be linearizable too.
STRICT = [f"{backend}:{LINEARIZABLE}" for backend in ("sqlite", "memory")]
USUAL = ["sqlite", "json", "memory", "redis", STRICT[0]]
SECONDS = 1200.0
# With more, the one who reads has what he needs.
SHOWN = 20


def main() -> int:
    """Returns 0 if nothing that is promised was broken, else 1."""
    options = _options()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    backends = options.backend or USUAL
    print(f"seed {seed}", flush=True)
    results = []
    for name in backends:
        backend, _, consistency = name.partition(":")
        styles = soak.STRICT_STYLES if consistency else soak.STYLES
        result = soak.run(
            backend,
            options.seconds or SECONDS / len(backends),
            seed,
            kinds=options.faults,
            mistake=options.mistake or ("forgetful" if options.workers == 1 else "none"),
            early=options.mistake is not None,
            styles=(styles * options.clients)[: options.clients],
            rate=options.rate,
            replicas=options.replicas if backend in ENGINES else 1,
            workers=options.workers if backend in ENGINES else 1,
            keep=options.keep,
        )
        results.append(result)
        print(f"\n{figures.tables([result])}", flush=True)
        for violation in result.violations[:SHOWN]:
            print(f"VIOLATION {violation.rule}: {violation.what}", file=sys.stderr)
        for line in result.complaints[:SHOWN]:
            print(f"said by {line}", file=sys.stderr)
    if options.write is not None:
        # What was broken too: the page is not for good news only.
        taken_on = page.surroundings(_command(options), seed)
        page.write(options.write, f"{taken_on}\n\n{figures.tables(results)}")
    return int(any(result.violations for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m coherence", description=(__doc__ or "").strip())
    parser.add_argument("--backend", action="append", choices=BACKENDS + STRICT, help="may be repeated")
    parser.add_argument("--seconds", type=float, help=f"for each backend; by default {SECONDS:g} for all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rate", type=float, default=15.0, help="writes per second of each client")
    parser.add_argument("--replicas", type=int, default=2, help="servers, where they can share an engine")
    parser.add_argument("--workers", type=int, default=1, help="processes of each such server")
    parser.add_argument("--clients", type=int, default=len(soak.STYLES))
    parser.add_argument("--faults", nargs="*", choices=list(KINDS), help="these kinds only")
    parser.add_argument(
        "--mistake",
        choices=[*MISTAKES, *CLIENT_MISTAKES],
        help="have servers or clients make this one, until it is found; most need --backend memory",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the histories there")
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=page.PAGE,
        metavar="FILE",
        help=f"put the figures into the marked part of this page too, by default {page.PAGE}",
    )
    options = parser.parse_args()
    # Now, and not when all is over.
    if options.write is not None and not page.has_marks(options.write):
        parser.error(f"{options.write} has no lines {page.BEGIN!r} and {page.END!r} to write between")
    return options


def _command(options: argparse.Namespace) -> str:
    chosen = [argument for argument in sys.argv[1:] if argument not in ("--write", str(options.write))]
    return f'make soak ARGS="{shlex.join(chosen)}"' if chosen else "make soak"


if __name__ == "__main__":
    sys.exit(main())
