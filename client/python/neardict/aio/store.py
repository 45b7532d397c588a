"""The asynchronous client: the four operations, and dicts over them."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, NoReturn, Self

import grpc
import grpc.aio

from .. import (
    _channel,
    _chunks,
    _clock,
    _compression,
    _forks,
    _lease,
    _operations,
    _progress,
    _requests,
    _timeouts,
    values,
)
from .._auditor import Auditor
from .._bulk import CALLS
from .._changes import Changes, Listener
from .._connection import Renewal
from .._connectivity import ConnectionObserver, Connectivity, check_watches
from .._lease import Consistency
from .._near import OnDisconnect
from .._operations import RPC, Kind, response, word
from .._pipeline import Operation
from .._progress import OnProgress
from .._reading import Line
from .._session import Session
from .._statuses import renewed, to_error, too_late
from ..entry import Entry
from ..errors import (
    AbsentKeyError,
    ClosedError,
    InvalidArgumentError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from ..v1 import storage_pb2 as pb
from ._audit import AuditTask
from ._bulk import Begun, bulk
from ._connections import Connections
from ._expiry import LoopExpiry
from ._large import Large, each
from ._pending import LATE, Pendings
from ._teller import LoopTeller
from ._threads import on_loop
from ._watching import Watching
from .cached_dict import CachedDict
from .linearizable import LinearizableDict


class Store:
    """A connection to the service, of one event loop. An async context manager; `close` may be repeated.

    What `neardict.Store` says of timeouts, errors, retries and forks holds here too. A call that is
    cancelled may have taken effect if it was a write.
    """

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
        compress = _compression.check(compression)
        self._timeout = _timeouts.check(timeout)
        self._connections = connections = Connections(settings)
        # They stand for stubs, of the channels of now.
        self._stub = connections.calls
        self._pendings = Pendings(lambda: connections.stream.open("Execute"))
        executing = self._pendings.executing
        self._large = Large(self.target, self._stub, self._translated, self._timeout, compress=compress)
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
        renewal = Renewal(renew, executing.heard, time.monotonic, follows=follows)
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
        _forks.follow(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"neardict.aio.Store({self.target!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store is of its event loop alone: call neardict.aio.connect in the other process")

    async def close(self) -> None:
        """Ends the connection; calls under way raise ClosedError. Dicts of the store keep their contents."""
        if not self._closed:
            self._closed = f"this store, of {self.target}, is closed: connect again"
            # At once: if this is cancelled, nobody is left waiting.
            self._pendings.executing.refuse(ClosedError(self._closed))
            if self._audit is not None:
                await self._audit.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._teller.close()
            self.expiry.close()
            try:
                await self._watching.close()
            finally:
                # Also if this is cancelled.
                await self._pendings.close(ClosedError(self._closed))
                await self._connections.close()

    async def dict(
        self,
        domain: str,
        *,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
        consistency: Consistency = "bounded",
        on_progress: OnProgress | None = None,
    ) -> CachedDict:
        """Returns a dict of the domain: a mirror of all of it, or with load=False a cache of what is used.

        While the stream of changes is broken, what the dict holds may be stale. Then reading raises
        NotHeldError, which names what to await, or with on_disconnect="serve_stale" goes on as before.

        `consistency` and `on_progress` are as for neardict.Store; it is called on the event loop.
        """
        self.check_open()
        _progress.check(on_progress, load=load)
        kind = LinearizableDict if _lease.check(consistency, on_disconnect) else CachedDict
        cache = kind(self, domain, load=load, on_disconnect=on_disconnect, max_entries=max_entries)
        if self.changes.session is not None:
            self._watching.start()
            await self._watching.wait(domain, self._timeout)
            cache.check_granted()
        if load:
            await cache.refresh(on_progress=on_progress)
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
        return values.decode(found.entry.value)

    async def get_entry(self, domain: str, key: str, *, timeout: float | None = None) -> Entry | None:
        """Returns the value with its revision and time of expiry, None if the key is absent."""
        found = await self.lookup(domain, key, timeout=timeout)
        return _requests.entry(found.entry) if found.found else None

    async def set_value(
        self,
        domain: str,
        key: str,
        value: Any,
        *,
        ttl: _requests.Ttl = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Stores the value and returns the revision of the write; options as for neardict.Store."""
        operation = _operations.set_value(
            domain, key, value, ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return await self._write(operation, None, timeout)

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
                yield _requests.entry(entry)

    async def get_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, Any]":
        """Returns the values of those keys that have one. Raises BulkError."""
        found = await self.lookup_many(domain, keys, timeout=timeout)
        return {key: values.decode(r.entry.value) for key, r in found.items() if r.found}

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

    async def server_info(self, *, timeout: float | None = None) -> pb.GetServerInfoResponse:
        """Returns the service's version, limits, backends and routes."""
        response: pb.GetServerInfoResponse = await self.call(
            self._stub.GetServerInfo, pb.GetServerInfoRequest(), timeout
        )
        return response

    # What follows is for this package: requests and responses as messages.

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
    ) -> int:
        return await self._write(word("set_value", request), by, timeout)

    async def _write(self, operation: Operation, by: Listener | None, timeout: float | None) -> int:
        changes, domain, request = self.changes, operation.domain, None
        call = changes.calls.begin()
        try:
            if operation.is_large:
                request = operation.request("set_value")
                response = await self._large.set_value(
                    request,
                    timeout,
                    lambda wire: self._operate("set_value", word("set_value", wire), timeout),
                )
            else:
                response = await self._operate("set_value", operation, timeout)
            if changes.listened(domain):
                request = request or operation.request("set_value")
                change = _requests.written(request, response, call)
                changes.publish(domain, change, but=by)
        except BaseException as error:
            changes.failed(domain, operation.key, error)
            raise
        finally:
            changes.calls.end(call)
        return response.revision

    async def write_many(
        self,
        domain: str,
        requests: Mapping[str, pb.SetValueRequest],
        *,
        by: Listener | None = None,
        written: Callable[[str, int], None] | None = None,
        timeout: float | None = None,
    ) -> "dict_type[str, int]":
        revisions: dict_type[str, int] = {}

        def answered(key: str, response: pb.SetValueResponse, call: int) -> None:
            revisions[key] = response.revision
            self.changes.publish(domain, _requests.written(requests[key], response, call), but=by)
            if written is not None:
                written(key, response.revision)

        async def in_messages(some: Mapping[str, pb.SetValueRequest]) -> None:
            wires = {key: await self._large.wire(request, timeout) for key, request in some.items()}
            await self._write_bulk(domain, "set_value", wires, timeout, answered)

        async def in_chunks(key: str) -> int:
            revision = await self.write(requests[key], by=by, timeout=timeout)
            if written is not None:
                written(key, revision)
            return revision

        return await each(requests, revisions, in_messages, in_chunks)

    async def remove(
        self, request: pb.DeleteKeyRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> pb.DeleteKeyResponse:
        with self.changes.writing(request.domain, request.key) as call:
            response: pb.DeleteKeyResponse = await self._operate(
                "delete_key", word("delete_key", request), timeout
            )
            self.changes.publish(request.domain, _requests.removed(request, response, call), but=by)
        return response

    def pages(
        self, request: pb.AllKeysRequest, *, timeout: float | None = None
    ) -> AsyncGenerator[pb.AllKeysResponse, None]:
        return self._large.pages(request, self._pages(request, timeout))

    async def _pages(
        self, request: pb.AllKeysRequest, timeout: float | None
    ) -> AsyncGenerator[pb.AllKeysResponse, None]:
        self._large.accept(request)
        if timeout is not None:
            timeout = _timeouts.check(timeout)
        with self._translated():
            call = self._stub.AllKeys(request, timeout=timeout)
            messages = aiter(call)
            try:
                while True:
                    # A listing may be long: without a bound for all of it there is one for each part.
                    async with asyncio.timeout(self._timeout if timeout is None else None):
                        page = await anext(messages)
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
            return self._begin(kind, operation, timeout).finish()
        self.check_open()
        self._pendings.begin(operation, self._timeout if timeout is None else _timeouts.check(timeout))
        return self._finish(kind, operation)

    def _begin(self, kind: Kind, operation: Operation, timeout: float | None) -> Begun:
        """Sends an operation; what is returned can be finished once, for the response."""
        seconds = self._timeout if timeout is None else _timeouts.check(timeout)
        self.check_open()
        if self._pendings.executing.takes(operation):
            sure = self._pendings.executing.supported is True
            self._pendings.begin(operation, seconds)
            return Begun(
                lambda: self._pendings.cancel(operation), lambda: self._finish(kind, operation), sure
            )
        renewals, deadline = self._stub.renewals, time.monotonic() + seconds
        call = getattr(self._stub, RPC[kind])(operation.request(kind), timeout=seconds)

        async def finish() -> Any:
            try:
                return await self._called(call)
            except UnavailableError:
                # Cancelled, perhaps, for a better connection, on which it may be repeated.
                if self._stub.renewals == renewals:
                    raise
            return await self._begin(kind, operation, deadline - time.monotonic()).finish()

        return Begun(call.cancel, finish, sure=True, most=CALLS)

    async def _finish(self, kind: Kind, operation: Operation) -> Any:
        outcome = await self._pendings.result(operation)
        if outcome is LATE:
            raise too_late(self.target)
        found = response(kind, outcome, self.target)
        if found is not None:
            return found
        return await self._begin(kind, operation, operation.deadline - time.monotonic()).finish()

    async def _called(self, call: Any) -> Any:
        with self._translated():
            return await call

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any, timeout: float | None) -> Any:
        with self._translated():
            seconds = self._timeout if timeout is None else _timeouts.check(timeout)
            return await method(request, timeout=seconds)

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

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work as a task that ends with this store at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_bulk(
        self, kind: Kind, requests: Mapping[str, Any], timeout: float | None, **heard: Any
    ) -> "dict_type[str, Any]":
        return await bulk(requests, lambda request: self._begin(kind, word(kind, request), timeout), **heard)

    async def _write_bulk(
        self,
        domain: str,
        kind: Kind,
        requests: Mapping[str, Any],
        timeout: float | None,
        answered: Callable[[str, Any, int], None],
    ) -> "dict_type[str, Any]":
        with self.changes.calls.under_way() as call:
            return await self._read_bulk(
                kind,
                requests,
                timeout,
                answered=lambda key, response: answered(key, response, call),
                failed=lambda key, error: self.changes.failed(domain, key, error),
            )

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

    def _error(self, error: grpc.RpcError) -> NeardictError:
        return ClosedError(self._closed) if self._closed else to_error(error, self.target)


# `dict` is a method inside the class.
dict_type = dict
