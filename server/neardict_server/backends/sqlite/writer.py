"""One thread that writes: what has gathered while a commit was on its way to the disk is committed next."""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...errors import BackendUnavailableError
from .. import base
from .database import called, primary_code, translate
from .transaction import Publication, Transaction

logger = logging.getLogger(__name__)

# How many operations a commit takes before no more join it, which bounds how long its first one waits.
MAX_BATCH = 1024
# How often an idle writer looks for expired entries, at least.
SWEEP_SECONDS = 1.0

_Result = TypeVar("_Result")


class _Job(NamedTuple):
    run: Callable[[Transaction], Any]
    size: int
    done: asyncio.Future[Any]


class _Outcome(NamedTuple):
    done: asyncio.Future[Any]
    result: Any
    error: Exception | None


class Writer:
    """Runs writes in transactions of many. Owns the thread, from construction to `close`."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        clock: base.Clock,
        publish: base.Publish,
        *,
        started: int,
        name: str = "",
    ) -> None:
        """`path` is the file's, `started` the revision of domains that nobody has written to.

        `name` is the backend's.
        """
        self._name = name
        self._path = path
        self._file = _identity(path)
        self._loop = asyncio.get_running_loop()
        self._transaction = Transaction(connection, clock, started)
        self._publish = publish
        self._broken: str | None = None
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    async def submit(self, run: Callable[[Transaction], _Result], *, size: int = 1) -> _Result:
        """Returns what `run` returned, once its transaction is on the disk, or raises what it raised.

        It carries out `size` operations.

        Also one who is cancelled hears of that only when the transaction is over.
        """
        if self._closed:
            raise BackendUnavailableError("the backend is closing")
        done: asyncio.Future[_Result] = self._loop.create_future()
        self._jobs.put(_Job(run, size, done))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            done.exception()  # its caller will not ask
            raise

    async def close(self) -> None:
        """Commits what has been submitted, and ends the thread."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """Runs in the thread until it takes None from the queue."""
        last = False
        sweep_after = SWEEP_SECONDS
        while not last:
            batch: list[_Job] = []
            size = 0
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=sweep_after)
                while True:
                    if job is None:
                        last = True
                        break
                    batch.append(job)
                    size += job.size
                    if size >= MAX_BATCH:
                        break
                    job = self._jobs.get_nowait()
            outcomes, publications = self._commit(batch)
            if outcomes or publications:
                # The loop is there: it outlives `close`, which waits for this thread.
                self._loop.call_soon_threadsafe(self._tell, outcomes, publications)
            sweep_after = self._sweep_after(swept=bool(publications))

    def _sweep_after(self, *, swept: bool) -> float:
        """Returns for how long to wait for writes before expired entries are looked for.

        Those who watch learn of an expiry from what is swept, so that is when the next entry expires. Not at
        once again if it is over and yet nothing could be `swept`.
        """
        if self._broken is not None or not self._jobs.empty():
            return SWEEP_SECONDS
        try:
            seconds = self._transaction.seconds_to_expiry()
        except sqlite3.Error:
            return SWEEP_SECONDS  # the next commit meets the same, and tells
        return min(max(seconds, 0.0), SWEEP_SECONDS) if seconds > 0 or swept else SWEEP_SECONDS

    def _commit(self, batch: list[_Job]) -> tuple[list[_Outcome], list[Publication]]:
        failure: Exception
        if self._broken is None and _identity(self._path) != self._file:
            # What is written to it from here on nobody would find again.
            self._broken = (
                f"the file of {called(self._name)} was removed, or replaced, while the server ran: restart "
                "the server"
            )
            logger.error("%s cannot be used any more: %s", self._path, self._broken)
        if self._broken is not None:
            failure = BackendUnavailableError(self._broken)
            return [_Outcome(job.done, None, failure) for job in batch], []
        try:
            outcomes = []
            with self._transaction.running(work=bool(batch)) as running:
                if running:
                    outcomes = [_Outcome(job.done, job.run(self._transaction), None) for job in batch]
            return outcomes, self._transaction.publications
        except sqlite3.Error as caught:
            failure = translate(caught, self._name)
            if primary_code(caught) == sqlite3.SQLITE_IOERR:
                # After a failed fsync the page cache may hold what the disk does not: nothing that is
                # written from here on could be trusted, until a restart reads the file anew.
                self._broken = (
                    f"an I/O error ended writing to {called(self._name)}: check the disk, then restart"
                )
            logger.error("a commit of %d writes failed: %s", _size(batch), caught)
        except Exception as mistake:
            # Ours, and told to the callers: were it to end this thread, all later writes would wait forever.
            logger.error("a commit of %d writes failed: %s", _size(batch), type(mistake).__name__)
            failure = mistake
        return [_Outcome(job.done, None, failure) for job in batch], []

    def _tell(self, outcomes: list[_Outcome], publications: list[Publication]) -> None:
        """Runs on the event loop, after the commit and in the order of commits."""
        for publication in publications:
            self._publish(*publication)
        for done, result, error in outcomes:
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns what tells the file from another of its name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _size(batch: list[_Job]) -> int:
    return sum(job.size for job in batch)
