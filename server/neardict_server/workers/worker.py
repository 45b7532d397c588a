"""A worker: one of several processes that serve one port. Only a supervisor starts it.

Its standard input brings the order, and then stays open for as long as it is to serve: the end of it says to
drain, and comes by itself if the supervisor is killed, so that no worker is left behind. Its standard output
takes the report, and is closed. It logs to standard error.
"""

import asyncio
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import BinaryIO

from ..app import serving
from ..logs import log_to_stderr
from ..metrics import keeping
from ..startup import StartError
from ..stopping import stop_signals
from .orders import READY, Order

logger = logging.getLogger(__name__)

STDIN, STDOUT, STDERR = 0, 1, 2


def main() -> int:
    """Serves until it is told to stop; returns the exit code."""
    # What a backend prints is no report.
    report = os.fdopen(os.dup(STDOUT), "wb")
    os.dup2(STDERR, STDOUT)
    with os.fdopen(STDIN, "rb", closefd=False) as orders:
        try:
            order = Order.read(orders)
        except (EOFError, pickle.UnpicklingError):
            return 1  # the supervisor is gone already
    log_to_stderr(order.log_level, f"worker {order.number} ")
    if order.metrics_folder is not None:
        _keep_metrics(order.metrics_folder, order.number)
    try:
        asyncio.run(_serve(order, report))
    except StartError as error:
        with report:
            report.write(str(error).encode())
        return 1
    return 0


def _keep_metrics(folder: Path, number: int) -> None:
    try:
        keeping.in_files(folder, number)
    except OSError as error:
        logger.error("what this worker does is not in the metrics: %s", error)


async def _serve(order: Order, report: BinaryIO) -> None:
    with stop_signals() as stop:
        asyncio.get_running_loop().add_reader(STDIN, stop.set)
        async with serving(order.config, notice=order.notice, shared_port=True):
            with report:
                report.write(READY)
            await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
