"""The command `neardict serve`."""

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from .config import Config, ConfigError, load
from .logs import log_to_stderr
from .startup import Server, StartError
from .stopping import stop_signals

# Longer than a call takes, and not felt when a server is stopped.
NOTICE_SECONDS = 0.2


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file, or a Moobius db_config .json. Default: $NEARDICT_CONFIG, else all in SQLite.",
)
@click.option("--listen", metavar="HOST:PORT", help="Address to serve; port 0 picks a free one.")
@click.option("--data", "data_dir", metavar="DIR", help="Folder of the embedded backends.")
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Processes that serve the port. More than 1 if all backends are redis.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="What is logged, to standard error.",
)
def serve(
    config_path: Path | None, listen: str | None, data_dir: str | None, workers: int | None, log_level: str
) -> None:
    """Serve domains from the configured backends until SIGTERM or Ctrl-C."""
    log_to_stderr(log_level)
    try:
        overrides = {"listen": listen, "data_dir": data_dir, "workers": workers}
        config = load(config_path, environ=os.environ, overrides=overrides)
        asyncio.run(_serve(config, log_level))
    except (ConfigError, StartError) as error:
        raise click.ClickException(str(error)) from None


async def _serve(config: Config, log_level: str) -> None:
    with stop_signals() as stop:
        async with _running(config, log_level) as server:
            _say(f"listening on {server.address}")
            if server.metrics is not None:
                _say(f"metrics at {server.metrics}")
            for domain, backend in server.routes:
                _say(f"  {domain} -> {backend} ({config.backends[backend].implementation})")
            await stop.wait()
            _say("draining")


def _running(config: Config, log_level: str) -> AbstractAsyncContextManager[Server]:
    # A supervisor must not load gRPC, see there. A single server, which must, need not load a supervisor.
    if config.workers > 1:
        from .workers.supervisor import supervising

        return supervising(config, log_level=log_level, notice=NOTICE_SECONDS)
    from .app import serving

    return serving(config, notice=NOTICE_SECONDS)


def _say(line: str) -> None:
    """Prints the line. A server goes on when nobody reads its output any more."""
    try:
        click.echo(line)
    except OSError:
        # What is still buffered would make the interpreter's exit fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
