"""A worker: one of several processes that serve one port. Only a supervisor starts it.

Its standard input brings the order, and then stays open for as long as it is to serve: the end of it says to
drain, and comes by itself if the supervisor is killed, so that no worker is left behind. Its standard output
takes the report, and is closed. It logs to standard error.
"""

import asyncio
import os
import pickle
import sys
from typing import BinaryIO

from ..app import serving
from ..logs import log_to_stderr
from ..metrics.of_workers import kept_in
from ..startup import StartError
from ..stopping import stop_signals
from .orders import READY, Order

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
    try:
        with kept_in(order.metrics_folder, order.number):
            asyncio.run(_serve(order, report))
    except StartError as error:
        with report:
            report.write(str(error).encode())
        return 1
    return 0


async def _serve(order: Order, report: BinaryIO) -> None:
    with stop_signals() as stop:
        asyncio.get_running_loop().add_reader(STDIN, stop.set)
        async with serving(order.config, notice=order.notice, shared_port=True):
            with report:
                report.write(READY)
            await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
