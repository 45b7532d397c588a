"""Runs the command line once, and turns whatever happens into one line and an exit code."""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..errors import NeardictError
from . import output
from .exit_codes import ExitCode, code_of
from .group import cli


def run(args: Sequence[str] | None = None) -> int:
    """Returns the exit code. `args` are those of the process by default."""
    try:
        code = _run(args)
    except BrokenPipeError:
        code = ExitCode.PIPE_CLOSED
    if code in (ExitCode.PIPE_CLOSED, ExitCode.FILE):
        # The interpreter writes what is left when it ends, and would complain of the same again.
        with contextlib.suppress(OSError):
            output.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(args: Sequence[str] | None) -> int:
    try:
        code = cli.main(args, prog_name="neardict", standalone_mode=False)
        output.flush()
        return code if isinstance(code, int) else ExitCode.OK
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        output.complain(f"{error.format_message()}{hint}")
        return error.exit_code
    except output.Failure as error:
        output.complain(error.format_message())
        return error.code
    except click.ClickException as error:
        # A configuration may have several mistakes, each on a line of its own.
        output.complain(*error.format_message().split("\n"))
        return error.exit_code
    except click.Abort:
        return ExitCode.INTERRUPTED
    except NeardictError as error:
        output.complain(str(error))
        return code_of(error)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise BrokenPipeError from None
        name = f"{error.filename}: " if error.filename else ""
        output.complain(f"{name}{error.strerror or error}")
        return ExitCode.FILE
    except Exception as error:
        # No traceback, which could quote a value; the place is what a report of the mistake needs.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        output.complain(f"unexpected {type(error).__name__}{where}: this is a mistake of neardict, report it")
        return ExitCode.INTERNAL
