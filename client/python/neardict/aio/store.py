"""The asynchronous client: the four operations, and dicts over them."""

import asyncio
import contextlib
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

from .. import _channel, _clock, _compression, _forks, _lease, _requests, values
from .._auditor import Auditor
from .._bulk import HOPELESS, WINDOW
from .._changes import Changes, Listener
from .._lease import Consistency
from .._near import OnDisconnect
from .._reading import Line
from .._session import Session
from .._statuses import to_error, too_late
from ..entry import Entry
from ..errors import AbsentKeyError, BulkError, ClosedError, InvalidArgumentError, NeardictError
from ..v1 import storage_pb2 as pb
from ..v1 import storage_pb2_grpc
from ._audit import AuditTask
from ._expiry import LoopExpiry
from ._large import Large
from ._teller import LoopTeller
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
    ) -> None:
        self.target = _channel.resolve_target(target)
        _forks.check()
        compress = _compression.check(compression)
        self._timeout = timeout
        self._credentials = credentials
        self._channel = self._connect()
        self._stub: Any = storage_pb2_grpc.StorageServiceStub(self._channel)
        self._large = Large(self.target, self._stub, self._translated, timeout, compress=compress)
        self._closed = ""
        self.changes = Changes()
        session = Session(self.changes, _clock.now)
        self._watching = Watching(session, Line(self.target, credentials))
        if watch:
            self.changes.session = session
        self.expiry = LoopExpiry()
        self._teller = LoopTeller()
        self.tell = self._teller.schedule
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
            if self._audit is not None:
                await self._audit.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._teller.close()
            self.expiry.close()
            await self._watching.close()
            await self._channel.close()

    async def dict(
        self,
        domain: str,
        *,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
        consistency: Consistency = "bounded",
    ) -> CachedDict:
        """Returns a dict of the domain: a mirror of all of it, or with load=False a cache of what is used.

        While the stream of changes is broken, what the dict holds may be stale. Then reading raises
        NotHeldError, which names what to await, or with on_disconnect="serve_stale" goes on as before.

        `consistency` is as for neardict.Store.
        """
        self.check_open()
        kind = LinearizableDict if _lease.check(consistency, on_disconnect) else CachedDict
        cache = kind(self, domain, load=load, on_disconnect=on_disconnect, max_entries=max_entries)
        if self.changes.session is not None:
            self._watching.start()
            await self._watching.wait(domain, self._timeout)
            cache.check_granted()
        if load:
            await cache.refresh()
        return cache

    def audit(self, *, every: float = 10.0, sample: int = 10) -> None:
        """Compares hits of the store's dicts with the service, as for neardict.Store."""
        self.check_open()
        auditor = Auditor(self.changes, every=every, sample=sample)
        if self._audit is not None:
            raise InvalidArgumentError("this store is audited already")
        self._audit = AuditTask(self, auditor)

    async def get_value(self, domain: str, key: str, *, timeout: float | None = None) -> Any:
        """Returns the value. Raises AbsentKeyError, a KeyError, if there is none."""
        entry = await self.get_entry(domain, key, timeout=timeout)
        if entry is None:
            raise AbsentKeyError(key)
        return entry.value

    async def get_entry(self, domain: str, key: str, *, timeout: float | None = None) -> Entry | None:
        """Returns the value with its revision and time of expiry, None if the key is absent."""
        response = await self.lookup(domain, key, timeout=timeout)
        return _requests.entry(response.entry) if response.found else None

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
        request = _requests.set_value(
            domain, key, values.encode(value), ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return await self.write(request, timeout=timeout)

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

        async def delete(request: pb.DeleteKeyRequest) -> bool:
            return (await self.remove(request, timeout=timeout)).existed

        found = await self._bulk(delete, {key: _requests.delete_key(domain, key) for key in keys})
        return sum(found.values())

    async def server_info(self, *, timeout: float | None = None) -> pb.GetServerInfoResponse:
        """Returns the service's version, limits, backends and routes."""
        response: pb.GetServerInfoResponse = await self.call(
            self._stub.GetServerInfo, pb.GetServerInfoRequest(), timeout
        )
        return response

    # What follows is for this package: requests and responses as messages.

    async def lookup(self, domain: str, key: str, *, timeout: float | None = None) -> pb.GetValueResponse:
        return await self._get(_requests.get_value(domain, key), timeout)

    async def lookup_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, pb.GetValueResponse]":
        async def look_up(request: pb.GetValueRequest) -> Any:
            return await self._get(request, timeout)

        return await self._bulk(look_up, {key: _requests.get_value(domain, key) for key in keys})

    async def write(
        self, request: pb.SetValueRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> int:
        with self.changes.writing(request.domain, request.key) as call:
            response = await self._large.set_value(
                request, timeout, lambda wire: self.call(self._stub.SetValue, wire, timeout)
            )
            self.changes.publish(request.domain, _requests.written(request, response, call), but=by)
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
        async def write(request: pb.SetValueRequest) -> int:
            revision = await self.write(request, by=by, timeout=timeout)
            if written is not None:
                written(request.key, revision)
            return revision

        with self.changes.calls.under_way():
            return await self._bulk(write, requests)

    async def remove(
        self, request: pb.DeleteKeyRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> pb.DeleteKeyResponse:
        with self.changes.writing(request.domain, request.key) as call:
            response: pb.DeleteKeyResponse = await self.call(self._stub.DeleteKey, request, timeout)
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

    async def _get(self, request: pb.GetValueRequest, timeout: float | None) -> pb.GetValueResponse:
        return await self._large.get_value(
            request, timeout, lambda: self.call(self._stub.GetValue, request, timeout)
        )

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any, timeout: float | None) -> Any:
        with self._translated():
            return await method(request, timeout=self._timeout if timeout is None else timeout)

    def pause(self) -> bool:
        """Ends the stream of changes for the time of a fork; returns whether there was one."""
        return self._watching.pause()

    def resume(self) -> None:
        """Opens the stream of changes again, in the parent after a fork."""
        self._watching.resume()

    def forked(self) -> None:
        """Called in the child after a fork, where gRPC must not be touched."""
        self._closed = (
            f"this store, of {self.target}, belongs to the process before the fork: connect in this one"
        )
        self.changes.forked()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work as a task that ends with this store at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bulk(
        self, operation: Callable[[Any], Awaitable[Any]], requests: Mapping[str, Any]
    ) -> "dict_type[str, Any]":
        """Runs them, up to WINDOW at once, and returns the answers by key. Raises BulkError."""
        answers: dict_type[str, Any] = {}
        failures: dict_type[str, NeardictError] = {}
        waiting = iter(requests.items())
        hopeless: NeardictError | None = None

        async def work() -> None:
            nonlocal hopeless
            for key, request in waiting:
                if hopeless is not None:
                    failures[key] = hopeless
                    continue
                try:
                    answers[key] = await operation(request)
                except NeardictError as error:
                    failures[key] = error
                    if isinstance(error, HOPELESS):
                        hopeless = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(WINDOW, len(requests))):
                group.create_task(work())
        if failures:
            raise BulkError(failures, len(requests))
        return answers

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
            if self._closed and not (task and task.cancelling()):
                raise ClosedError(self._closed) from None
            raise

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, _channel.OPTIONS)
        return grpc.aio.secure_channel(self.target, self._credentials, _channel.OPTIONS)

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed)

    def _error(self, error: grpc.RpcError) -> NeardictError:
        return ClosedError(self._closed) if self._closed else to_error(error, self.target)


# `dict` is a method inside the class.
dict_type = dict
