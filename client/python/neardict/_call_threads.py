"""Makes the calls of a synchronous store that do not travel on its Execute stream, in threads of its own.

Whoever waits for one may be interrupted at any moment, by a signal handler that raises. In the middle of
gRPC that would leave a lock taken which every call of the connection needs. So no caller enters gRPC: it puts
the call into an inbox, waits for what comes back on a queue, and gives the call up by one more message. A
queue is C, and does each step whole; see `_threads`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc

from . import _forks
from ._statuses import Failure, detached
from ._threads import join, start
from ._where import where

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# gRPC says of a call that its time is over, and why. One that does not even say that is given up so many
# seconds later.
_GRACE = 1.0
# How often a thread that has nothing to do looks for calls whose callers are gone without a word, in seconds.
_LOOK_SECONDS = 1.0
# As many threads wait for more to do: one that is there for whatever comes, and one that has just been used.
_MOST_IDLE = 2
# How long `close` waits for a thread that gRPC does not let go, in seconds.
_CLOSE_SECONDS = 5.0


class _End(NamedTuple):
    """How a call has ended: with this error, or well, one without a stream with this response."""

    error: BaseException | None = None
    response: Any = None


class _Job:
    """One call, as the threads know it. `begin` makes it, and may be called once."""

    __slots__ = ("abandoned", "begin", "call", "credits", "heard", "outbox", "owner", "streams")

    def __init__(self, begin: Callable[[], Any], *, streams: bool, heard: bool = True) -> None:
        self.begin: Callable[[], Any] | None = begin
        self.streams = streams
        # Whether what comes is a sign of the connection for calls.
        self.heard = heard
        # For the threads alone: when a call is collected it takes a lock.
        self.call: Any = None
        self.abandoned = False
        # Messages of a stream, and at last how it ended.
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # One for each message that may be read before it is asked for; False when nobody wants more.
        self.credits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.owner: Callable[[], object] = object

    def make(self) -> Any:
        """Begins the call, and returns it, unless nobody wants it any more: then raises Failure."""
        begin, self.begin = self.begin, None
        if self.abandoned or begin is None:
            raise Failure(grpc.StatusCode.CANCELLED)
        call = self.call = begin()
        if self.given_up():  # before the call was known to whoever cancels it
            call.cancel()
        return call

    def given_up(self) -> bool:
        """Returns whether nobody wants it any more; an interrupt may have come in the middle of saying so."""
        return self.abandoned or self.owner() is None

    def cancel(self) -> None:
        """In a thread of ours: ends the call, wherever it is."""
        self.abandoned = True
        self.credits.put(False)
        if (call := self.call) is not None:
            call.cancel()


class _Handle:
    """What the caller has of a call. It is given up when it is dropped."""

    _over = True  # if it is interrupted before it begins

    def __init__(self, threads: CallThreads, job: _Job) -> None:
        self._inbox = threads.inbox
        self._job = job
        self._over = False

    def cancel(self) -> None:
        """Gives the call up, wherever it is. Takes no lock: a finalizer may call it in any thread."""
        if not self._over:
            self._over = True
            self._job.abandoned = True
            self._job.credits.put(False)
            self._inbox.put((self._job, False))

    __del__ = cancel

    def _get(self, seconds: float) -> Any:
        """Waits for what comes next. Raises TimeoutError if nothing does, and what the call ended with."""
        try:
            what = self._job.outbox.get(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except queue.Empty:
            self.cancel()
            raise TimeoutError from None
        except BaseException:
            self.cancel()
            raise
        if isinstance(what, _End):
            self._over = True
            if what.error is not None:
                raise what.error
        return what


class Reply(_Handle):
    """A call with one response, in flight."""

    def __init__(self, threads: CallThreads, job: _Job, seconds: float) -> None:
        super().__init__(threads, job)
        self._until = time.monotonic() + seconds + _GRACE

    def result(self) -> Any:
        """Waits for the response, which can be had once. Raises grpc.RpcError, or TimeoutError."""
        return self._get(self._until - time.monotonic()).response


class Messages(_Handle):
    """The messages of a call, in flight; an iterator. At most one is read before it is asked for."""

    def __init__(self, threads: CallThreads, job: _Job, idle: float | None, seconds: float | None) -> None:
        super().__init__(threads, job)
        self._idle = float("inf") if idle is None else idle
        self._until = float("inf") if seconds is None else time.monotonic() + seconds + _GRACE

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Waits for the next message. Raises grpc.RpcError, or TimeoutError."""
        if self._over:
            raise StopIteration
        message = self._get(min(self._idle, self._until - time.monotonic()))
        if isinstance(message, _End):
            raise StopIteration
        self._job.credits.put(True)
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()


class CallThreads:
    """Threads that make calls: one that waits for whatever comes, and one for each stream that is read.

    The first begins with the first call. Callers take no lock of this, and start no thread by themselves.
    """

    def __init__(self, hear: Callable[[], object] = object) -> None:
        """`hear` is called when something has come for a call. It must not hold the store."""
        self._hear = hear
        # Calls to be made, with True, or to be given up, with False; None to look whether it is all over.
        self.inbox: queue.SimpleQueue[tuple[_Job, bool] | None] = queue.SimpleQueue()
        # Those that are being made.
        self._made: dict[_Job, None] = {}
        # Guards the rest. Taken by our threads, and by those that end them.
        self._changed = threading.Condition(threading.RLock())
        self._idle = 0
        self._threads: set[_Worker] = set()
        # Whether there may be any, or one that begins just now.
        self._started = False
        self._paused = False
        self._closed = False

    def unary(self, begin: Callable[[], Any], seconds: float) -> Reply:
        """Makes a call with one response: `begin` returns its future. It lasts for so long at most."""
        reply = Reply(self, _Job(begin, streams=False), seconds)
        self._put(reply)
        return reply

    def stream(
        self,
        begin: Callable[[], Any],
        *,
        idle: float | None = None,
        seconds: float | None = None,
        heard: bool = True,
    ) -> Messages:
        """Makes a call with several: `begin` returns what yields them.

        It may take `idle` seconds for each of them, and `seconds` for all. It is not `heard` if it has
        another connection.
        """
        messages = Messages(self, _Job(begin, streams=True, heard=heard), idle, seconds)
        messages._job.credits.put(True)
        self._put(messages)
        return messages

    def pause(self) -> bool:
        """Ends the threads that make no call, until `resume`; returns whether there were any threads.

        Calls that are given up are over then. Others go on: whoever waits here may be the one who reads them.
        """
        with self._changed:
            self._paused = True
            ran = self._started
            for job in list(self._made):
                if job.given_up():
                    job.cancel()
            if ran:
                self.inbox.put(None)
            self._changed.wait_for(
                lambda: not self._idle and not any(job.given_up() for job in list(self._made)), _CLOSE_SECONDS
            )
            ended = [thread for thread in self._threads if thread.ended]
            self._started = len(ended) < len(self._threads)
        for thread in ended:
            join(thread, _CLOSE_SECONDS)
        return ran

    def resume(self) -> None:
        """Lets the threads begin again."""
        if not self._closed:
            self._paused = False
            if self._made or not self.inbox.empty():
                self._start()

    def close(self) -> None:
        """Gives up all calls, and ends the threads for good."""
        self._closed = self._paused = True
        for job in list(self._made):
            job.cancel()
        self._refuse()
        with self._changed:
            threads = list(self._threads)
        for thread in threads:
            join(thread, _CLOSE_SECONDS)

    def drop(self) -> None:
        """Ends the threads in a moment: nobody can use them any more. For finalizers, so without a lock."""
        self._closed = self._paused = True
        self.inbox.put(None)

    def _put(self, handle: _Handle) -> None:
        handle._job.owner = weakref.ref(handle)
        self.inbox.put((handle._job, True))
        if self._closed:
            self._refuse()
        elif not self._idle and not self._paused:
            self._start()

    def _start(self) -> None:
        # Before it runs, as a pause may come in between.
        self._started = True
        start(_Worker(self))

    def _refuse(self) -> None:
        """Ends what nobody has begun."""
        try:
            while True:
                item = self.inbox.get_nowait()
                if item is not None and item[1]:
                    item[0].outbox.put(_End(Failure(grpc.StatusCode.CANCELLED)))
        except queue.Empty:
            self.inbox.put(None)

    # In our threads.

    def work(self, thread: _Worker) -> None:
        """Makes calls until it is all over, or enough others are there to do it."""
        with self._changed:
            self._threads = {one for one in self._threads if one.is_alive()} | {thread}
            self._idle += 1
        while self._serve():
            pass
        with self._changed:
            self._idle -= 1
            thread.ended = True
            self._changed.notify_all()

    def _serve(self) -> bool:
        """Does the next thing that there is to do; returns whether to go on."""
        item = self._take()
        if item is not None and not item[1]:
            item[0].cancel()
            return True
        if self._paused:
            # For whoever comes after it; and for the others, to end as well.
            if item is not None:
                self.inbox.put(item)
            self.inbox.put(None)
            return False
        if item is None:
            return True
        job = item[0]
        _forks.begin(job)
        self._made[job] = None
        if not job.streams:
            self._call(job)
            return True
        with self._changed:
            self._idle -= 1
            alone = not self._idle
            self._changed.notify_all()
        try:
            if alone:
                # Somebody has to be there, to give this call up.
                self._start_another()
            self._read(job)
        finally:
            with self._changed:
                self._idle += 1
                enough = self._idle > _MOST_IDLE
        return not enough

    def _take(self) -> tuple[_Job, bool] | None:
        try:
            return self.inbox.get(timeout=_LOOK_SECONDS if self._made else None)
        except queue.Empty:
            for job in list(self._made):
                if job.given_up():
                    job.cancel()
            return None

    def _start_another(self) -> None:
        self._started = True
        try:
            _Worker(self).start()
        except RuntimeError as error:
            logger.warning("no thread can be started, and calls wait for each other: %s", error)

    def _read(self, job: _Job) -> None:
        end = _End(Failure(grpc.StatusCode.CANCELLED))
        try:
            call = job.make()
            try:
                while job.credits.get():
                    message = next(call)
                    if job.heard:
                        self._hear()
                    job.outbox.put(message)
                    del message
            finally:
                call.cancel()
        except StopIteration:
            end = _End()
        except grpc.RpcError as error:
            end = _End(detached(error))
        except BaseException as error:
            end = _End(error.with_traceback(None))
        self._over(job, end)

    def _call(self, job: _Job) -> None:
        try:
            job.make().add_done_callback(lambda future: self._called(job, future))
        except grpc.RpcError as error:
            self._over(job, _End(detached(error)))
        except BaseException as error:
            self._over(job, _End(error.with_traceback(None)))

    def _called(self, job: _Job, future: Any) -> None:
        """In a thread of gRPC's."""
        try:
            error = future.exception()
            if error is None:
                self._hear()
            end = _End(response=future.result()) if error is None else _End(detached(error))
        except grpc.FutureCancelledError:
            end = _End(Failure(grpc.StatusCode.CANCELLED))
        except Exception as failure:
            logger.error("a call ended in an unexpected way: %s", where(failure))
            end = _End(failure.with_traceback(None))
        self._over(job, end)

    def _over(self, job: _Job, end: _End) -> None:
        job.call = None
        _forks.end(job)
        self._made.pop(job, None)
        with self._changed:
            self._changed.notify_all()
        job.outbox.put(end)


class _Worker(threading.Thread):
    """Holds the threads' owner, not its store."""

    def __init__(self, owner: CallThreads) -> None:
        super().__init__(name="neardict calls", daemon=True)
        self._owner = owner
        self.ended = False

    def run(self) -> None:
        self._owner.work(self)
