"""The command `neardict serve`."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import click

from .app import StartError, serving
from .config import Config, ConfigError, load

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
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="What is logged, to standard error.",
)
def serve(config_path: Path | None, listen: str | None, data_dir: str | None, log_level: str) -> None:
    """Serve domains from the configured backends until SIGTERM or Ctrl-C."""
    logging.basicConfig(
        level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        config = load(config_path, environ=os.environ, overrides={"listen": listen, "data_dir": data_dir})
        asyncio.run(_serve(config))
    except (ConfigError, StartError) as error:
        raise click.ClickException(str(error)) from None


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(config, notice=NOTICE_SECONDS) as server:
        _say(f"listening on {server.address}")
        for domain, backend in server.routes:
            _say(f"  {domain} -> {backend} ({config.backends[backend].implementation})")
        await stop.wait()
        _say("draining")
    # All is closed. Were the loop to take its handlers away now, a second signal would end the process
    # with an error while the interpreter is on its way out.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _say(line: str) -> None:
    """Prints the line. A server goes on when nobody reads its output any more."""
    try:
        click.echo(line)
    except OSError:
        # What is still buffered would make the interpreter's exit fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
