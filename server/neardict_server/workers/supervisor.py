"""Several workers serve one port, and those that end are started again.

The supervisor itself never loads gRPC, which does not outlive a fork, and no worker is forked from a process
that has it. Workers share nothing but the port. What they know of each other's writes comes from the engine,
which therefore has to be one that several servers may share.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ..backends import base
from ..config import Config
from ..metrics.endpoint import exposing
from ..metrics.of_workers import WorkersMeasures
from ..startup import Server, StartError, cannot_listen, chosen, routes_of
from .orders import READY, Order
from .reservation import Reservation
from .restarts import Restarts

logger = logging.getLogger(__name__)

# For closing the backends, when the grace for calls is over. A worker that takes longer is killed.
CLOSE_SECONDS = 5.0


@asynccontextmanager
async def supervising(config: Config, *, log_level: str, notice: float = 0.0) -> AsyncIterator[Server]:
    """Serves by `config.workers` processes while the context lasts; on leaving lets all of them drain.

    Raises StartError, before anything listens, if a backend cannot be shared or the address is taken; also if
    one of the workers cannot start, when all others have ended.
    """
    if sys.platform != "linux":
        raise StartError("workers: must be 1, since only Linux spreads connections over processes")
    _check_shared(config)
    try:
        reservation = Reservation(config.listen)
    except OSError:
        raise cannot_listen(config.listen) from None
    numbers = range(1, config.workers + 1)
    async with AsyncExitStack() as stack:
        stack.enter_context(reservation)
        served = config.model_copy(update={"listen": reservation.address})
        exposed = None
        folder = None if config.metrics_listen is None else config.data_dir / "metrics"
        measures = stack.enter_context(WorkersMeasures(numbers, folder))
        if config.metrics_listen is not None:
            exposed = await stack.enter_async_context(exposing(config.metrics_listen, measures.registry))
        workers = [_Worker(Order(number, served, log_level, notice, folder)) for number in numbers]
        keepers: list[asyncio.Task[None]] = []
        try:
            await _start(workers)
            for number in numbers:
                measures.up(number)
            keepers += [asyncio.create_task(_keep(worker, measures)) for worker in workers]
            yield Server(reservation.address, routes_of(config), exposed)
        finally:
            await _cancel(keepers)
            grace = config.shutdown_grace_seconds + CLOSE_SECONDS
            await asyncio.gather(*(worker.stop(grace) for worker in workers))


class _Worker:
    """One of the workers: now this process, now its successor."""

    def __init__(self, order: Order) -> None:
        self.number = order.number
        self._order = order.to_bytes()
        self._process: subprocess.Process | None = None

    async def start(self) -> None:
        """Starts a process and returns when it serves. Raises StartError if it does not come to that."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                # -P: what lies in the working folder is no module of ours.
                *(sys.executable, "-P", "-m", f"{__package__}.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # A server may have been started without any.
                stderr=None if sys.stderr is not None else subprocess.DEVNULL,
                # Ctrl-C is for the supervisor. It tells the workers.
                process_group=0,
            )
        except OSError as error:
            raise StartError(f"worker {self.number} cannot be started: {error.strerror}") from None
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None  # noqa: S101  # both are pipes
        assert stdout is not None  # noqa: S101
        stdin.write(self._order)
        report = await stdout.read()
        if report != READY:
            how = await self.ended()
            raise StartError(report.decode() or f"{how} before it served: its log tells more")
        logger.info("worker %d (process %d) serves", self.number, process.pid)

    async def ended(self) -> str:
        """Waits until it has ended, and returns how."""
        if self._process is None:
            return f"worker {self.number} was not there"
        code = await self._process.wait()
        cause = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        return f"worker {self.number} (process {self._process.pid}) ended {cause}"

    async def stop(self, seconds: float) -> None:
        """Lets it drain, and returns when it has ended; kills it if that takes longer."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101  # it is a pipe
        process.stdin.close()
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            logger.error("worker %d (process %d) does not end, and is killed", self.number, process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _start(workers: Sequence[_Worker]) -> None:
    """Returns when all serve; raises the StartError of the first that cannot."""
    starts = [asyncio.create_task(worker.start()) for worker in workers]
    try:
        for start in asyncio.as_completed(starts):
            await start
    finally:
        await _cancel(starts)


async def _keep(worker: _Worker, measures: WorkersMeasures) -> None:
    """Starts the worker again whenever it has ended, until it is cancelled."""
    restarts = Restarts()
    while True:
        how = await worker.ended()
        measures.ended(worker.number)
        wait = restarts.ended()
        logger.error("%s: starting it again in %g seconds", how, wait)
        await asyncio.sleep(wait)
        restarts.started()
        try:
            await worker.start()
        except StartError as error:
            logger.error("worker %d cannot start: %s", worker.number, error)
        except Exception:
            logger.exception("worker %d cannot be started", worker.number)
        else:
            measures.up(worker.number)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _check_shared(config: Config) -> None:
    """Raises StartError if a backend cannot be shared. Its class has to tell, since none is open yet."""
    alone = [
        f"  backends.{name}: {config.backends[name].implementation} lacks CAPABILITY_SHARED"
        for name, kind, _ in chosen(config.backends)
        if base.Capability.SHARED not in getattr(kind, "capabilities", ())
    ]
    if alone:
        raise StartError(
            "workers: must be 1, since several processes cannot share these:\n" + "\n".join(alone)
        )
