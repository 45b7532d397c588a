"""The command `neardict` with its sub-commands, each imported when it is used.

Other packages add commands through the entry point group `neardict.commands`. One that cannot be
imported fails alone, when it is called.
"""

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from .exit_codes import ExitCode
from .options import connection_options
from .output import Failure

GROUP = "neardict.commands"

# The module of this package that holds a click command named `command`.
_MODULE_OF = {
    "delete": "delete",
    "export": "export",
    "get": "get",
    "import": "import_",
    "keys": "keys",
    "ping": "ping",
    "set": "set",
    "watch": "watch",
}


class Commands(click.Group):
    """Finds commands by name: this package's own, then those of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_MODULE_OF, *entry_points(group=GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _MODULE_OF:
            own: click.Command = importlib.import_module(f".{_MODULE_OF[cmd_name]}", __package__).command
            return own
        for point in entry_points(group=GROUP, name=cmd_name):
            return _Added(point)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        # click has its own endings for these two, which would look like an absent key.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            ctx.exit(ExitCode.PIPE_CLOSED)


class _Added(click.Command):
    """Stands for a command of another package, which is imported only when it is called."""

    def __init__(self, point: EntryPoint) -> None:
        super().__init__(point.name, short_help=f"(of {point.module.partition('.')[0]})")
        self._point = point

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # The context names the real command, and click goes on with that one.
        return self._load().make_context(info_name, args, parent=parent, **extra)

    def _load(self) -> click.Command:
        try:
            command = self._point.load()
        except Exception as error:  # whatever goes wrong in somebody else's package
            raise Failure(
                f"the command {self.name} of {self._point.module} cannot be loaded "
                f"({type(error).__name__}: {error}): reinstall its package or remove it",
                ExitCode.INTERNAL,
            ) from error
        if not isinstance(command, click.Command):
            raise Failure(f"{self._point.value} is no click command: remove its package", ExitCode.INTERNAL)
        return command


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@connection_options
@click.version_option(package_name="neardict")
@click.pass_context
def cli(ctx: click.Context, target: str | None, timeout: float | None, wait: float | None) -> None:
    """A shared dictionary that is near: use a neardict service from the shell.

    Prints for people on a terminal, and lines of JSON into a pipe. Exit codes are in docs/cli.md.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitCode.USAGE)
