"""Where the console script begins, before it is known whether click is there."""

import importlib.util
import sys

from .exit_codes import ExitCode


def main() -> None:
    """Runs `neardict` with the arguments of the process, and ends the process with its exit code."""
    if importlib.util.find_spec("click") is None:
        print(  # the base install is for programs, which need no command line
            "neardict: the command line is not installed; add it with: pip install 'neardict[server]'",
            file=sys.stderr,
        )
        sys.exit(ExitCode.INTERNAL)
    try:
        from .run import run

        code = run()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    sys.exit(code)
