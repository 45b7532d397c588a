"""The asynchronous client: the four operations, and dicts over them."""

import asyncio
import concurrent.futures
import contextlib
import time
import types
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, NoReturn, Self, TypeVar, overload

import grpc
import grpc.aio

from .. import (
    _channel,
    _chunks,
    _clock,
    _compression,
    _exiting,
    _forks,
    _green_threads,
    _lease,
    _operations,
    _progress,
    _replies,
    _requests,
    _timeouts,
    server_info,
    values,
)
from .._auditor import Auditor
from .._bulk import CALLS
from .._changes import Changes, Listener
from .._connection import Renewal
from .._connectivity import ConnectionObserver, Connectivity, check_watches
from .._exiting import is_finalizing
from .._lease import Consistency
from .._near import OnDisconnect
from .._operations import RPC, Kind, checked, late, response, word
from .._pages import Page, Pages
from .._pipeline import Operation
from .._progress import OnProgress
from .._reading import Line
from .._requests import Written
from .._retries import Attempts
from .._session import Session
from .._statuses import renewed, to_error, too_late
from .._value_type import V
from ..entry import Entry
from ..errors import (
    AbsentKeyError,
    BulkError,
    ClosedError,
    ConflictError,
    DeadlineExceededError,
    InvalidArgumentError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from ..server_info import ServerInfo
from ..v1 import storage_pb2 as pb
from ._audit import AuditTask
from ._bulk import Begun, bulk
from ._connections import Connections
from ._expiry import LoopExpiry
from ._home import current, elsewhere, home, not_awaited, silence
from ._large import Large, each
from ._pending import LATE, Pendings
from ._reload import Mirror, reload
from ._teller import LoopTeller
from ._threads import on_loop
from ._watching import Watching
from .cached_dict import CachedDict
from .linearizable import LinearizableDict, ends

# For so long, in seconds, one who closes in another thread waits for the loop.
_LOOP_SECONDS = 5.0

_Answer = TypeVar("_Answer")


class Store:
    """A connection to the service, of one event loop. An async context manager; `close` may be repeated.

    What `neardict.Store` says of timeouts, errors, retries and forks holds here too. A call that is
    cancelled may have taken effect if it was a write.
    """

    of_loop = True  # for _forks

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float = _channel.DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        watch: bool = True,
        compression: _compression.Compression = None,
        proxy: bool = False,
        balance: _channel.Balance = "pick_first",
    ) -> None:
        settings = _channel.settings(target, credentials, proxy=proxy, balance=balance)
        self.target = settings.target
        _forks.check()
        _exiting.check()
        _green_threads.check()
        self._loop = home()
        compress = _compression.check(compression)
        self._timeout = _timeouts.check(timeout)
        self._connections = connections = Connections(settings)
        # They stand for stubs, of the channels of now.
        self._stub = connections.calls
        self._pendings = Pendings(lambda: connections.stream.open("Execute"))
        executing = self._pendings.executing
        self._closing = asyncio.Event()
        # Until then the service may take to start, by the monotonic clock; None if it is not waited for.
        self._answers_by: float | None = None
        self._large = Large(
            self.target,
            self._stub,
            self._describe,
            self._translated,
            self._retried,
            self._seconds,
            compress=compress,
        )
        self._closed = ""
        self.changes = Changes()
        session = Session(self.changes, _clock.now)
        self._teller = LoopTeller()
        self.tell = self._teller.schedule
        self.connectivity = Connectivity(self.target, session.domains, _clock.now, self.tell)
        session.notice = self.connectivity.notice

        def renew(at_once: bool) -> None:
            connections.renew(executing.renew, at_once=at_once)

        follows = balance == "pick_first"

        def heard() -> float:
            return max(executing.heard(), connections.calls.heard)

        renewal = Renewal(renew, heard, time.monotonic, follows=follows)
        line = Line(settings, on_loop(renewal.came_up))
        self._watching = Watching(session, line, renewal, self.connectivity)
        self._watched = False  # before a fork
        for part in (self._watching, self._pendings.executing):
            weakref.finalize(self, part.drop).atexit = False
        if watch:
            self.changes.session = session
        self.expiry = LoopExpiry()
        self._audit: AuditTask | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Closes it, where somebody on another loop has wanted that.
        self._ending: asyncio.Task[None] | None = None
        _forks.follow(self)

    async def __aenter__(self) -> Self:
        try:
            await self.reach()
        except BaseException:
            await self.close()
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Waits as `async with` does, for `store = await connect(wait=...)`."""
        return self.__aenter__().__await__()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"neardict.aio.Store({self.target!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store is of its event loop alone: call neardict.aio.connect in the other process")

    def __enter__(self) -> NoReturn:
        not_awaited(self)

    def __exit__(self, *exc_info: object) -> None:
        """There, so that `with` comes as far as to the message."""

    async def close(self) -> None:
        """Ends the connection; calls under way raise ClosedError. Dicts of the store keep their contents.

        In another event loop than the store's it does the same, or what can be done if that has ended.
        """
        if current() is self._loop:
            await self._close()
        elif not self._closed:
            await self._close_elsewhere()

    async def _close_elsewhere(self) -> None:
        if self._loop.is_running() and current() is not None and await self._close_at_home():
            return
        self._closed = f"this store, of {self.target}, is closed: connect again"
        silence(*self._tasks, *self._watching.tasks(), *self._pendings.executing.tasks())
        if self._audit is not None:
            silence(self._audit.task)
        self._teller.close()
        if is_finalizing():
            return  # there are no threads to be waited for
        self._watching.abandon()
        # What it would tell, it would tell on the loop.
        with contextlib.suppress(RuntimeError):
            self._pendings.executing.refuse(ClosedError(self._closed))
        with contextlib.suppress(RuntimeError):
            await self._connections.close()

    async def _close_at_home(self) -> bool:
        """Has the loop, which runs in another thread, close it; returns whether that has begun it in time."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def begin() -> None:
            if done.set_running_or_notify_cancel():
                self._ending = asyncio.create_task(self._close(), name="neardict close")
                self._ending.add_done_callback(lambda _: done.set_result(None))

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:  # it has just ended
            return False
        waiting = asyncio.wrap_future(done)
        try:
            await asyncio.wait([waiting], timeout=_LOOP_SECONDS)
        finally:
            waiting.cancel()
            # What has begun is its loop's, however long it takes.
            begun = not done.cancel()
        return begun

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = f"this store, of {self.target}, is closed: connect again"
        self._closing.set()
        # At once: if this is cancelled, nobody is left waiting.
        self._pendings.executing.refuse(ClosedError(self._closed))
        for task in self._tasks:
            task.cancel()
        # The rest also if this is cancelled: nobody does it after this.
        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(self._connections.close)
            ends.push_async_callback(self._pendings.close, ClosedError(self._closed))
            ends.push_async_callback(self._watching.close)
            ends.callback(self.expiry.close)
            ends.callback(self._teller.close)
            if self._audit is not None:
                ends.push_async_callback(self._audit.close)
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @overload
    async def dict(
        self,
        domain: str,
        value_type: types.UnionType | None = None,  # type checkers have no type for a union
        *,
        ttl: _requests.Ttl = ...,
        load: bool = ...,
        on_disconnect: OnDisconnect = ...,
        max_entries: int | None = ...,
        consistency: Consistency = ...,
        on_progress: OnProgress | None = ...,
    ) -> CachedDict[Any]: ...

    @overload
    async def dict(
        self,
        domain: str,
        value_type: type[V],
        *,
        ttl: _requests.Ttl = ...,
        load: bool = ...,
        on_disconnect: OnDisconnect = ...,
        max_entries: int | None = ...,
        consistency: Consistency = ...,
        on_progress: OnProgress | None = ...,
    ) -> CachedDict[V]: ...

    async def dict(
        self,
        domain: str,
        value_type: Any = None,
        *,
        ttl: _requests.Ttl = None,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
        consistency: Consistency = "bounded",
        on_progress: OnProgress | None = None,
    ) -> CachedDict[Any]:
        """Returns a dict of the domain: a mirror of all of it, or with load=False a cache of what is used.

        `value_type` is the type of the values: a registered class, one that `neardict.register` takes as it
        is, or a JSON type such as `int`, `dict` or `dict[str, int]`. What is written is checked
        (UnsupportedValueError, a TypeError), and so is what is read (UndecodableValueError).

        `ttl`, in seconds or as timedelta, is the time to live of what is stored by `d[k] = v`, `set`,
        `update` and `setdefault`, unless a method is given another one. `save` and `edit` keep the time that
        the entry has.

        While the stream of changes is broken, what the dict holds may be stale. Then reading raises
        NotHeldError, which names what to await, or with on_disconnect="serve_stale" goes on as before.

        `consistency` and `on_progress` are as for neardict.Store; it is called on the event loop.
        """
        self.check_open()
        _progress.check(on_progress, load=load)
        kind: type[CachedDict[Any]] = (
            LinearizableDict if _lease.check(consistency, on_disconnect) else CachedDict
        )
        cache: CachedDict[Any] = kind(
            self,
            domain,
            value_type=value_type,
            ttl=ttl,
            load=load,
            on_disconnect=on_disconnect,
            max_entries=max_entries,
        )
        if self.changes.session is not None:
            self._watching.start()
            await self._watching.wait(domain, self._timeout)
            cache.check_granted()
        if load:
            session = self.changes.session
            watched = session is None or session.settled(domain)
            await cache.refresh(on_progress=on_progress)
            if not watched:
                # The service has come up meanwhile: reading the dict cannot wait until its changes come.
                await self._watching.wait(domain, self._timeout)
                if not cache.fresh:
                    await cache.refresh()
        cache.publish()
        return cache

    def on_connection(self, callback: Callable[[bool], object]) -> ConnectionObserver:
        """Calls `callback(connected)` on the event loop, as for neardict.Store."""
        self.check_open()
        check_watches(self.changes)
        observer = self.connectivity.observe(callback)
        self._watching.start()
        return observer

    def audit(self, *, every: float = 10.0, sample: int = 10) -> None:
        """Compares hits of the store's dicts with the service, as for neardict.Store."""
        self.check_open()
        auditor = Auditor(self.changes, every=every, sample=sample)
        if self._audit is not None:
            raise InvalidArgumentError("this store is audited already")
        self._audit = AuditTask(self, auditor)

    async def get_value(self, domain: str, key: str, *, timeout: float | None = None) -> Any:
        """Returns the value. Raises AbsentKeyError, a KeyError, if there is none."""
        found = await self.lookup(domain, key, timeout=timeout)
        if not found.found:
            raise AbsentKeyError(key)
        return values.decode(found.entry.value, self.accepted)

    async def get_entry(self, domain: str, key: str, *, timeout: float | None = None) -> Entry | None:
        """Returns the value with its revision and time of expiry, None if the key is absent."""
        found = await self.lookup(domain, key, timeout=timeout)
        return _requests.entry(found.entry, self.accepted) if found.found else None

    async def set_value(
        self,
        domain: str,
        key: str,
        value: Any,
        *,
        ttl: _requests.Ttl = None,
        keep_ttl: bool = False,
        if_revision: int | None = None,
        if_absent: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Stores the value and returns the revision of the write; options as for neardict.Store."""
        if keep_ttl:
            request = _requests.set_value(
                domain,
                key,
                values.encode(value),
                ttl=ttl,
                keep_ttl=True,
                if_revision=if_revision,
                if_absent=if_absent,
            )
            return (await self.write(request, timeout=timeout)).revision
        operation = _operations.set_value(
            domain, key, value, ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return (await self._write(operation, None, timeout)).revision

    async def delete_key(
        self, domain: str, key: str, *, if_revision: int | None = None, timeout: float | None = None
    ) -> bool:
        """Deletes the entry and returns whether there was one. `if_revision` as for set_value."""
        request = _requests.delete_key(domain, key, if_revision=if_revision)
        return (await self.remove(request, timeout=timeout)).existed

    async def all_keys(
        self, domain: str, *, prefix: str = "", timeout: float | None = None
    ) -> AsyncIterator[str]:
        """Yields the keys of the domain, in no particular order, as they arrive.

        A key that exists all the while is yielded exactly once. `timeout` bounds the whole listing; by
        default each part of it may take as long as another call.
        """
        async for page in self.pages(_requests.all_keys(domain, prefix=prefix), timeout=timeout):
            for key in page.keys:
                yield key

    async def all_entries(
        self, domain: str, *, prefix: str = "", timeout: float | None = None
    ) -> AsyncIterator[Entry]:
        """Yields the entries of the domain, as all_keys does the keys."""
        request = _requests.all_keys(domain, prefix=prefix, entries=True)
        async for page in self.pages(request, timeout=timeout):
            for entry in page.entries:
                yield _requests.entry(entry, self.accepted)

    async def get_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, Any]":
        """Returns the values of those keys that have one. Raises BulkError."""
        found = await self.lookup_many(domain, keys, timeout=timeout)
        return {key: values.decode(r.entry.value, self.accepted) for key, r in found.items() if r.found}

    async def set_many(
        self,
        domain: str,
        mapping: Mapping[str, Any],
        *,
        ttl: _requests.Ttl = None,
        timeout: float | None = None,
    ) -> "dict_type[str, int]":
        """Stores each value, each on its own and in no order, and returns the revisions by key.

        Nothing is stored if one of the values is not supported. Raises BulkError if some could not be
        written; the others are.
        """
        requests = _requests.each(
            mapping, lambda key, value: _requests.set_value(domain, key, values.encode(value), ttl=ttl)
        )
        return await self.write_many(domain, requests, timeout=timeout)

    async def delete_many(self, domain: str, keys: Iterable[str], *, timeout: float | None = None) -> int:
        """Deletes each key that exists, and returns how many did. Raises BulkError."""
        requests = {key: _requests.delete_key(domain, key) for key in _requests.check_keys(keys)}

        def answered(key: str, response: pb.DeleteKeyResponse, call: int) -> None:
            self.changes.publish(domain, _requests.removed(requests[key], response, call))

        found = await self._write_bulk(domain, "delete_key", requests, timeout, answered)
        return sum(response.existed for response in found.values())

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Returns the service's version, limits, backends and routes."""
        attempts = Attempts(self._seconds(timeout))
        return server_info.of(await self._retried(attempts, lambda: self._describe(attempts.left())))

    # What follows is for this package: requests and responses as messages.

    @property
    def accepted(self) -> pb.Compression:
        """How values may be compressed that are answered."""
        return self._large.accepted

    @property
    def patience(self) -> float:
        """How many seconds a call may take that is given no time of its own."""
        return self._timeout

    async def lookup(self, domain: str, key: str, *, timeout: float | None = None) -> pb.GetValueResponse:
        operation = _operations.get_value(domain, key, self._large.accepted)
        try:
            response: pb.GetValueResponse = await self._operate("get_value", operation, timeout)
        except LimitExceededError as error:
            if not _chunks.needs_chunks(error):
                raise
            return await self._large.read(operation.request("get_value"), timeout)
        return response

    async def lookup_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, pb.GetValueResponse]":
        requests = {key: _requests.get_value(domain, key) for key in _requests.check_keys(keys)}
        for request in requests.values():
            self._large.accept(request)
        found: dict_type[str, pb.GetValueResponse] = {}
        return await each(
            requests,
            found,
            lambda some: self._read_bulk("get_value", some, timeout, answered=found.__setitem__),
            lambda key: self._large.read(requests[key], timeout),
        )

    async def write(
        self, request: pb.SetValueRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> Written:
        try:
            return await self._write(word("set_value", request), by, timeout)
        except InvalidArgumentError as error:
            raise _requests.meaning(request, error) from None

    async def _write(self, operation: Operation, by: Listener | None, timeout: float | None) -> Written:
        changes, domain, request = self.changes, operation.domain, None
        began = time.monotonic()
        call = changes.calls.begin()
        try:
            if operation.is_large:
                request = operation.request("set_value")
                response = await self._large.set_value(
                    request,
                    timeout,
                    lambda wire, left: self._operate("set_value", word("set_value", wire), left),
                )
            else:
                response = await self._operate("set_value", operation, timeout)
            if changes.listened(domain):
                request = request or operation.request("set_value")
                change = _requests.written(request, response, call)
                changes.publish(domain, change, but=by)
        except BaseException as error:
            changes.failed(domain, operation.key, error)
            if isinstance(error, ConflictError):
                await self._show(domain, [operation.key], began, timeout)
            raise
        finally:
            changes.calls.end(call)
        await self._show(domain, [operation.key], began, timeout)
        return _requests.outcome(response)

    async def write_many(
        self,
        domain: str,
        requests: Mapping[str, pb.SetValueRequest],
        *,
        by: Listener | None = None,
        written: Callable[[str, Written], None] | None = None,
        timeout: float | None = None,
    ) -> "dict_type[str, int]":
        revisions: dict_type[str, int] = {}

        def answered(key: str, response: pb.SetValueResponse, call: int) -> None:
            revisions[key] = response.revision
            self.changes.publish(domain, _requests.written(requests[key], response, call), but=by)
            if written is not None:
                written(key, _requests.outcome(response))

        async def in_messages(some: Mapping[str, pb.SetValueRequest]) -> None:
            left = Attempts(self._seconds(timeout))
            wires = {key: await self._large.wire(request, left.left()) for key, request in some.items()}
            await self._write_bulk(domain, "set_value", wires, left.left(), answered)

        async def in_chunks(key: str) -> int:
            outcome = await self.write(requests[key], by=by, timeout=timeout)
            if written is not None:
                written(key, outcome)
            return outcome.revision

        return await each(requests, revisions, in_messages, in_chunks)

    async def remove(
        self, request: pb.DeleteKeyRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> pb.DeleteKeyResponse:
        began = time.monotonic()
        try:
            with self.changes.writing(request.domain, request.key) as call:
                response: pb.DeleteKeyResponse = await self._operate(
                    "delete_key", word("delete_key", request), timeout
                )
                self.changes.publish(request.domain, _requests.removed(request, response, call), but=by)
        except ConflictError:
            await self._show(request.domain, [request.key], began, timeout)
            raise
        await self._show(request.domain, [request.key], began, timeout)
        return response

    def pages(
        self,
        request: pb.AllKeysRequest,
        *,
        timeout: float | None = None,
        restart: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Yields the pages of a listing. One that breaks begins again with `restart`, which is called."""
        listing = Pages(request, self.target)

        def begin_again() -> None:
            listing.begin_again()
            if restart is not None:
                restart()

        pages = self._pages(request, timeout, None if restart is None else begin_again)
        return self._large.pages(request, listing, pages, timeout)

    async def _pages(
        self, request: pb.AllKeysRequest, timeout: float | None, restart: Callable[[], None] | None
    ) -> AsyncGenerator[pb.AllKeysResponse, None]:
        self._large.accept(request)
        attempts = Attempts(self._seconds(timeout), since_failure=timeout is None)
        while True:
            begun = False
            try:
                listed = self._listed(request, None if timeout is None else attempts.left())
                async with contextlib.aclosing(listed) as pages:
                    async for page in pages:
                        begun = True
                        yield page
                return
            except NeardictError as error:
                if begun and restart is None:
                    raise  # what was yielded would come twice
                pause = attempts.pause(error)
            await self._nap(pause)
            if restart is not None:
                restart()

    async def _listed(
        self, request: pb.AllKeysRequest, timeout: float | None
    ) -> AsyncGenerator[pb.AllKeysResponse, None]:
        with self._translated():
            call = self._stub.AllKeys(request, timeout=timeout)
            messages = aiter(call)
            try:
                while True:
                    # A listing may be long: without a bound for all of it there is one for each part.
                    async with asyncio.timeout(self._timeout if timeout is None else None):
                        page = await anext(messages)
                    self._connections.calls.hear()
                    yield page
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise too_late(self.target) from None
            finally:
                call.cancel()

    def _operate(self, kind: Kind, operation: Operation, timeout: float | None) -> Awaitable[Any]:
        """Begins an operation, on the stream or as a call; to be awaited for the response of its RPC."""
        if not self._pendings.executing.takes(operation):
            return self._begin(kind, operation, timeout).settle()
        self.check_open()
        self._pendings.begin(operation, self._seconds(timeout))
        return self._finish(kind, operation)

    def _begin(self, kind: Kind, operation: Operation, timeout: float | None) -> Begun:
        """Sends an operation; what is returned is its first attempt."""
        seconds = self._seconds(timeout)
        self.check_open()
        if self._pendings.executing.takes(operation):
            sure = self._pendings.executing.supported is True
            self._pendings.begin(operation, seconds)
            return Begun(
                lambda: self._pendings.cancel(operation), lambda: self._finish(kind, operation), sure=sure
            )
        request, attempts = operation.request(kind), Attempts(seconds)

        def begin() -> Begun:
            if operation.writes:
                attempts.sent()
            call = getattr(self._stub, RPC[kind])(request, timeout=attempts.left())
            return Begun(
                call.cancel,
                lambda: self._called(call, kind, operation, attempts),
                again,
                most=CALLS,
            )

        def again(error: NeardictError) -> Callable[[], Awaitable[Begun]]:
            pause = attempts.pause(error)

            async def begin_later() -> Begun:
                await self._nap(pause)
                return begin()

            return begin_later

        return begin()

    async def _finish(self, kind: Kind, operation: Operation) -> Any:
        try:
            # Not a coroutine around it: each takes a thirtieth of all that is done for an operation here.
            outcome = await operation.waiter
        except BaseException:
            self._pendings.cancel(operation)
            raise
        if outcome is LATE:
            self._pendings.cancel(operation)
            raise late(operation, self.target)
        self._pendings.over(operation)
        found = response(kind, operation, outcome, self.target)
        if found is not None:
            return found
        return await self._begin(kind, operation, operation.deadline - _clock.now()).settle()

    async def _called(self, call: Any, kind: Kind, operation: Operation, attempts: Attempts) -> Any:
        with self._translated():
            answer = await call
        self._connections.calls.hear()
        found = checked(kind, operation, answer, self.target, operation.accept)
        if operation.accept:
            await self._large.hold((found.entry.value,), attempts.left())
        return found

    def wait_for_service(self, seconds: float) -> None:
        """Has `async with`, `await` and the first calls wait for so long until the service answers."""
        self._answers_by = time.monotonic() + seconds

    async def reach(self) -> None:
        """Returns as soon as the service answers, if it is to be waited for. Raises UnavailableError."""
        if self._answers_by is None:
            return
        attempts = Attempts(self._answers_by - time.monotonic())

        async def attempt() -> None:
            # No single attempt takes all the time, if the service hangs.
            seconds = min(attempts.left(), self._timeout)
            try:
                await self._describe(seconds)
            except DeadlineExceededError as error:
                raise UnavailableError(str(error)) from None

        await self._retried(attempts, attempt)
        self._answers_by = None

    async def _describe(self, seconds: float) -> pb.GetServerInfoResponse:
        """Asks the service once what it is."""
        with self._translated():
            info: pb.GetServerInfoResponse | None = await self._stub.GetServerInfo(
                pb.GetServerInfoRequest(), timeout=seconds
            )
        self._connections.calls.hear()
        return _replies.checked(info, _replies.info_problem, self.target)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is not None:
            return _timeouts.check(timeout)
        if self._answers_by is not None:
            return max(self._timeout, self._answers_by - time.monotonic())
        return self._timeout

    async def _retried(self, attempts: Attempts, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Makes the attempt, again and again until it succeeds, is hopeless or its time is over."""
        while True:
            try:
                return await attempt()
            except NeardictError as error:
                pause = attempts.pause(error)
            await self._nap(pause)

    async def _nap(self, seconds: float) -> None:
        """Waits before another attempt. Raises ClosedError as soon as the store is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        self.check_open()

    def pause(self) -> bool:
        """Ends the streams for the time of a fork; returns whether to call `resume` after it."""
        # It may be called again, where it was interrupted.
        self._watched = self._watching.pause() or self._watched
        return self._pendings.executing.pause() or self._watched

    def resume(self) -> None:
        """Opens the streams again, in the parent after a fork."""
        self._pendings.executing.resume()
        if self._watched:
            self._watched = False
            self._watching.resume()

    def forked(self) -> None:
        """Called in the child after a fork, where gRPC must not be touched."""
        self._closed = (
            f"this store, of {self.target}, belongs to the process before the fork: connect in this one"
        )
        self.changes.forked()
        self.connectivity.forked()

    def reload(self, cache: Mirror) -> bool:
        """Has the mirror read what it lacks; whether that could be begun."""
        # No loop runs where a coroutine is thrown away that would have written.
        if self._closed or current() is not self._loop:
            return False
        self.spawn(reload(weakref.ref(cache)))
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work as a task that ends with this store at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_bulk(
        self, kind: Kind, requests: Mapping[str, Any], timeout: float | None, **heard: Any
    ) -> "dict_type[str, Any]":
        self.check_loop()
        return await bulk(requests, lambda request: self._begin(kind, word(kind, request), timeout), **heard)

    async def _write_bulk(
        self,
        domain: str,
        kind: Kind,
        requests: Mapping[str, Any],
        timeout: float | None,
        answered: Callable[[str, Any, int], None],
    ) -> "dict_type[str, Any]":
        began = time.monotonic()
        try:
            with self.changes.calls.under_way() as call:
                found = await self._read_bulk(
                    kind,
                    requests,
                    timeout,
                    answered=lambda key, response: answered(key, response, call),
                    failed=lambda key, error: self.changes.failed(domain, key, error),
                )
        except BulkError:
            await self._show(domain, requests, began, timeout)
            raise
        await self._show(domain, requests, began, timeout)
        return found

    async def _show(self, domain: str, keys: Collection[str], began: float, timeout: float | None) -> None:
        """Returns when the dicts of the store show what a call has written, or its time is over."""
        if waiting := ends(self.changes, domain, keys):
            left = began + self._seconds(timeout) - time.monotonic()
            await asyncio.wait(waiting, timeout=max(0.0, left))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Around what uses the channel: turns what gRPC raises into errors of ours."""
        self.check_open()
        try:
            with _forks.call():
                yield
        except grpc.RpcError as error:
            raise self._error(error) from None
        except asyncio.CancelledError:
            # Also what a call ends with when its channel is closed.
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise (ClosedError(self._closed) if self._closed else renewed(self.target)) from None

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed)
        if current() is not self._loop:
            raise elsewhere(self, self._loop)
        if is_finalizing():
            raise ClosedError(_exiting.MESSAGE)

    def check_loop(self) -> None:
        """Raises ClosedError in another event loop than the store's, where what is held is not kept fresh."""
        if current() is not self._loop and not self._closed:
            raise elsewhere(self, self._loop)

    def _error(self, error: grpc.RpcError) -> NeardictError:
        return ClosedError(self._closed) if self._closed else to_error(error, self.target)


# `dict` is a method inside the class.
dict_type = dict
