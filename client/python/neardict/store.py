"""The synchronous client: the four operations, and dicts over them."""

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar

import grpc

from . import (
    _channel,
    _chunks,
    _clock,
    _compression,
    _forks,
    _lease,
    _operations,
    _requests,
    _timeouts,
    values,
)
from ._auditor import Auditor, AuditThread
from ._bulk import CALLS, Begun, bulk
from ._changes import Changes, Listener
from ._connection import Connection, Renewal
from ._connectivity import ConnectionObserver, Connectivity, check_watches
from ._executing import Executing
from ._expiry import ExpiryTimer
from ._large import Large
from ._lease import Consistency
from ._near import OnDisconnect
from ._observers import Teller
from ._operations import RPC, Kind, response, word
from ._patience import patiently
from ._pending import Pending, tell
from ._pipeline import Operation
from ._progress import OnProgress
from ._reading import Line
from ._session import Session
from ._statuses import is_of_closed_channel, renewed, to_error, too_late, without_frames
from ._watching import Watching
from .cached_dict import CachedDict
from .entry import Entry
from .errors import (
    AbsentKeyError,
    ClosedError,
    InvalidArgumentError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from .linearizable import LinearizableDict
from .v1 import storage_pb2 as pb

_Answer = TypeVar("_Answer")


class Store:
    """A connection to the service. Thread-safe. A context manager; `close` may be called twice.

    Every call waits at most `timeout` seconds, a listing at most so long for each part of it, and raises
    the errors that `neardict.errors` lists: UnavailableError and DeadlineExceededError from any of them.
    Reads and writes are retried for a few seconds while the service cannot be reached; a write is applied
    once all the same.

    A store does not survive a fork: in the child its methods raise ClosedError, and its dicts are empty.
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
        # It stands for a stub, of the channel of now.
        self._stub = self._connection = connection = Connection(lambda: _channel.connect(settings))
        self._executing = executing = Executing(lambda requests: connection.open("Execute", requests), tell)
        self._large = Large(self.target, self._stub, self._translated, self._timeout, compress=compress)
        self._closed = ""
        self._over = False  # nothing is left to be closed
        self.changes = Changes()
        session = Session(self.changes, _clock.now)
        self._teller = Teller()
        self.tell = self._teller.schedule
        self.connectivity = Connectivity(self.target, session.domains, _clock.now, self.tell)
        session.notice = self.connectivity.notice

        def renew(at_once: bool) -> None:
            leaving = connection.renew(at_once=at_once)
            executing.renew()
            for channel in leaving:
                channel.close()

        follows = balance == "pick_first"
        renewal = Renewal(renew, executing.heard, time.monotonic, follows=follows)
        self._line = Line(settings, renewal.came_up)
        self._watching = Watching(session, self._line, renewal)
        self._watched = False  # before a fork
        if watch:
            self.changes.session = session
        self.expiry = ExpiryTimer()
        for part in (self._executing, self._watching, self._teller):
            weakref.finalize(self, part.drop).atexit = False
        self._audit: AuditThread | None = None
        _forks.follow(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"neardict.Store({self.target!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store is of its process alone: call neardict.connect in the other one")

    def close(self) -> None:
        """Ends the connection; calls under way raise ClosedError. Dicts of the store keep their contents.

        If it is interrupted, what it has left is done when it is called again.
        """
        if self._over:
            return
        self._closed = self._closed or f"this store, of {self.target}, is closed: connect again"
        if self._audit is not None:
            self._audit.stop()
        self.expiry.close()
        self._watching.close()
        self._teller.close()
        self._executing.close(ClosedError(self._closed))
        for channel in self._connection.close():
            channel.close()
        if self._audit is not None:
            self._audit.join()
        self._over = True

    def dict(
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

        While the stream of changes is broken, what the dict holds may be stale. Then it asks the service
        for each read, or with on_disconnect="serve_stale" goes on to serve what it holds.

        `max_entries` bounds a cache: the entry that came first makes room. That one is used shows nowhere,
        so that it is not spared; it comes back when it is looked up.

        While a mirror loads, `on_progress(loaded, total)` is called again and again in this thread: how many
        entries have come, and about how many there are, None if the service does not know. In the last call
        both are the same. What it raises is logged.

        `consistency="linearizable"` gives a LinearizableDict, whose hits are as if the service was asked.
        Raises CapabilityMissingError if the domain's backend gives no leases.
        """
        self.check_open()
        kind = LinearizableDict if _lease.check(consistency, on_disconnect) else CachedDict
        return kind(
            self,
            domain,
            load=load,
            on_disconnect=on_disconnect,
            max_entries=max_entries,
            on_progress=on_progress,
        )

    def on_connection(self, callback: Callable[[bool], object]) -> ConnectionObserver:
        """Calls `callback(connected)` when the service is lost, and when it is there again.

        And once at first, as soon as it is known which. It is lost when the stream of changes breaks or has
        been silent for 3 seconds: then dicts do not answer from memory, and calls are tried all the same.
        Where a callback cannot keep up, the last is told. Otherwise as for `on_change` of a dict.
        """
        self.check_open()
        check_watches(self.changes)
        observer = self.connectivity.observe(callback)
        self._watching.start()
        return observer

    def audit(self, *, every: float = 10.0, sample: int = 10) -> None:
        """Compares `sample` hits of the store's dicts with the service `every` so many seconds.

        Until the store is closed. A hit that is out of date for longer than is promised is counted in its
        dict's `stats.stale_reads_total`, and logged as a warning. That is a mistake of neardict.
        """
        self.check_open()
        auditor = Auditor(self.changes, every=every, sample=sample)
        if self._audit is not None:
            raise InvalidArgumentError("this store is audited already")
        self._audit = AuditThread(self, auditor)
        if self._closed:
            self._audit.stop()

    def watch(self, domain: str) -> None:
        """Waits until the changes of the domain are being watched, or cannot be now; for this package."""
        if self.changes.session is not None:
            self._watching.start()
            self.changes.session.wait(domain, self._timeout)

    def get_value(self, domain: str, key: str, *, timeout: float | None = None) -> Any:
        """Returns the value. Raises AbsentKeyError, a KeyError, if there is none."""
        found = self.lookup(domain, key, timeout=timeout)
        if not found.found:
            raise AbsentKeyError(key)
        return values.decode(found.entry.value)

    def get_entry(self, domain: str, key: str, *, timeout: float | None = None) -> Entry | None:
        """Returns the value with its revision and time of expiry, None if the key is absent."""
        found = self.lookup(domain, key, timeout=timeout)
        return _requests.entry(found.entry) if found.found else None

    def set_value(
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
        """Stores the value and returns the revision of the write.

        `ttl`, in seconds or as timedelta, makes the entry expire. With `if_revision` or `if_absent` the
        write happens only if the entry has that revision, or does not exist; ConflictError otherwise.
        Raises UnsupportedValueError if the value would not come back as it is.
        """
        operation = _operations.set_value(
            domain, key, value, ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return self._write(operation, None, timeout)

    def delete_key(
        self, domain: str, key: str, *, if_revision: int | None = None, timeout: float | None = None
    ) -> bool:
        """Deletes the entry and returns whether there was one. `if_revision` as for set_value."""
        request = _requests.delete_key(domain, key, if_revision=if_revision)
        return self.remove(request, timeout=timeout).existed

    def all_keys(self, domain: str, *, prefix: str = "", timeout: float | None = None) -> Iterator[str]:
        """Yields the keys of the domain, in no particular order, as they arrive.

        A key that exists all the while is yielded exactly once. `timeout` bounds the wait for the whole
        listing; by default each part of it may take as long as another call.
        """
        request = _requests.all_keys(domain, prefix=prefix)
        for page in self.pages(request, timeout=timeout):
            yield from page.keys

    def all_entries(self, domain: str, *, prefix: str = "", timeout: float | None = None) -> Iterator[Entry]:
        """Yields the entries of the domain, as all_keys does the keys."""
        request = _requests.all_keys(domain, prefix=prefix, entries=True)
        for page in self.pages(request, timeout=timeout):
            yield from map(_requests.entry, page.entries)

    def get_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, Any]":
        """Returns the values of those keys that have one. Raises BulkError."""
        found = self.lookup_many(domain, keys, timeout=timeout)
        return {key: values.decode(r.entry.value) for key, r in found.items() if r.found}

    def set_many(
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
        return self.write_many(domain, requests, timeout=timeout)

    def delete_many(self, domain: str, keys: Iterable[str], *, timeout: float | None = None) -> int:
        """Deletes each key that exists, and returns how many did. Raises BulkError."""
        requests = {key: _requests.delete_key(domain, key) for key in _requests.check_keys(keys)}

        def answered(key: str, response: pb.DeleteKeyResponse, call: int) -> None:
            self.changes.publish(domain, _requests.removed(requests[key], response, call))

        found = self._write_bulk(domain, "delete_key", requests, timeout, answered)
        return sum(response.existed for response in found.values())

    def server_info(self, *, timeout: float | None = None) -> pb.GetServerInfoResponse:
        """Returns the service's version, limits, backends and routes."""
        info: pb.GetServerInfoResponse = self.call(
            self._stub.GetServerInfo, pb.GetServerInfoRequest(), timeout
        )
        return info

    # What follows is for this package: requests and responses as messages.

    def lookup(self, domain: str, key: str, *, timeout: float | None = None) -> pb.GetValueResponse:
        operation = _operations.get_value(domain, key, self._large.accepted)
        try:
            response: pb.GetValueResponse = self._operate("get_value", operation, timeout)
        except LimitExceededError as error:
            if not _chunks.needs_chunks(error):
                raise
            return self._large.read(operation.request("get_value"), timeout)
        return response

    def lookup_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, pb.GetValueResponse]":
        requests = {key: _requests.get_value(domain, key) for key in _requests.check_keys(keys)}
        for request in requests.values():
            self._large.accept(request)
        found: dict_type[str, pb.GetValueResponse] = {}
        return _chunks.each(
            requests,
            found,
            lambda some: self._read_bulk("get_value", some, timeout, answered=found.__setitem__),
            lambda key: self._large.read(requests[key], timeout),
        )

    def write(
        self, request: pb.SetValueRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> int:
        return self._write(word("set_value", request), by, timeout)

    def _write(self, operation: Operation, by: Listener | None, timeout: float | None) -> int:
        changes, domain, request = self.changes, operation.domain, None
        with changes.writing(domain, operation.key) as call:
            if operation.is_large:
                request = operation.request("set_value")
                response = self._large.set_value(
                    request,
                    timeout,
                    lambda wire: self._operate("set_value", word("set_value", wire), timeout),
                )
            else:
                response = self._operate("set_value", operation, timeout)
            if changes.listened(domain):
                request = request or operation.request("set_value")
                change = _requests.written(request, response, call)
                changes.publish(domain, change, but=by)
        return response.revision

    def remove(
        self, request: pb.DeleteKeyRequest, *, by: Listener | None = None, timeout: float | None = None
    ) -> pb.DeleteKeyResponse:
        with self.changes.writing(request.domain, request.key) as call:
            response: pb.DeleteKeyResponse = self._operate("delete_key", word("delete_key", request), timeout)
            self.changes.publish(request.domain, _requests.removed(request, response, call), but=by)
        return response

    def write_many(
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
            if written is not None:
                written(key, response.revision)
            self.changes.publish(domain, _requests.written(requests[key], response, call), but=by)

        def in_chunks(key: str) -> int:
            revision = self.write(requests[key], by=by, timeout=timeout)
            if written is not None:
                written(key, revision)
            return revision

        return _chunks.each(
            requests,
            revisions,
            lambda some: self._write_bulk(
                domain,
                "set_value",
                {key: self._large.wire(request, timeout) for key, request in some.items()},
                timeout,
                answered,
            ),
            in_chunks,
        )

    def pages(
        self, request: pb.AllKeysRequest, *, timeout: float | None = None
    ) -> Iterator[pb.AllKeysResponse]:
        return self._large.pages(request, self._pages(request, timeout))

    def _pages(self, request: pb.AllKeysRequest, timeout: float | None) -> Iterator[pb.AllKeysResponse]:
        self._large.accept(request)
        if timeout is not None:
            timeout = _timeouts.check(timeout)
        with self._translated():
            call: Any = self._stub.AllKeys(request, timeout=timeout)
            try:
                # A listing may be long: without a bound for all of it there is one for each part.
                yield from patiently(call, self._timeout) if timeout is None else call
            except TimeoutError:
                raise too_late(self.target) from None
            finally:
                call.cancel()

    def call(self, method: Callable[..., _Answer], request: Any, timeout: float | None) -> _Answer:
        with self._translated():
            seconds = self._timeout if timeout is None else _timeouts.check(timeout)
            return method(request, timeout=seconds)

    def pause(self) -> bool:
        """Ends the streams for the time of a fork; returns whether to call `resume` after it."""
        # It may be called again, where it was interrupted.
        with self.connectivity.hold():
            self._watched = self._watching.pause() or self._watched
        return self._executing.pause() or self._watched

    def resume(self) -> None:
        """Opens the streams again, in the parent after a fork."""
        self._executing.resume()
        if self._watched:
            self._watched = False
            self._watching.start()

    def forked(self) -> None:
        """Called in the child after a fork, where gRPC must not be touched."""
        self._over = True
        self._closed = (
            f"this store, of {self.target}, belongs to the process before the fork: connect in this one"
        )
        self.changes.forked()
        self.connectivity.forked()
        self.expiry.forked()
        self._teller.forked()

    def _operate(self, kind: Kind, operation: Operation, timeout: float | None) -> Any:
        """Carries out an operation and returns the response of its RPC."""
        if not self._executing.takes(operation):
            return self._begin(kind, operation, timeout)()
        self.check_open()
        seconds = self._timeout if timeout is None else _timeouts.check(timeout)
        return self._finish(Pending(self._executing, operation, seconds), kind, operation)

    def _begin(
        self,
        kind: Kind,
        operation: Operation,
        timeout: float | None,
        unsent: list[Operation] | None = None,
    ) -> Begun:
        """Sends an operation, or puts it there; what is returned can be called once, for the response."""
        seconds = self._timeout if timeout is None else _timeouts.check(timeout)
        self.check_open()
        if self._executing.takes(operation):
            # Known before it is sent, since an answer may come meanwhile.
            sure = self._executing.supported is True
            pending = Pending(self._executing, operation, seconds, unsent)
            return Begun(pending.cancel, lambda: self._finish(pending, kind, operation), sure)
        renewals, deadline = self._connection.renewals, time.monotonic() + seconds
        with self._translated():
            future = getattr(self._stub, RPC[kind]).future(operation.request(kind), timeout=seconds)

        def finish() -> Any:
            try:
                return self._called(future)
            except UnavailableError:
                # Cancelled, perhaps, for a better connection, on which it may be repeated.
                if self._connection.renewals == renewals:
                    raise
            return self._begin(kind, operation, deadline - time.monotonic())()

        return Begun(future.cancel, finish, most=CALLS)

    def _finish(self, pending: Pending, kind: Kind, operation: Operation) -> Any:
        token = _forks.begin()
        try:
            outcome = pending.result()
        except TimeoutError:
            raise too_late(self.target) from None
        finally:
            _forks.end(token)
        found = response(kind, outcome, self.target)
        if found is not None:
            return found
        return self._begin(kind, operation, pending.deadline - time.monotonic())()

    def _called(self, future: Any) -> Any:
        with self._translated():
            return future.result()

    def _read_bulk(
        self, kind: Kind, requests: Mapping[str, Any], timeout: float | None, **heard: Any
    ) -> "dict_type[str, Any]":
        unsent: list[Operation] = []
        return bulk(
            requests, lambda request: self._begin(kind, word(kind, request), timeout, unsent), **heard
        )

    def _write_bulk(
        self,
        domain: str,
        kind: Kind,
        requests: Mapping[str, Any],
        timeout: float | None,
        answered: Callable[[str, Any, int], None],
    ) -> "dict_type[str, Any]":
        with self.changes.calls.under_way() as call:
            return self._read_bulk(
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
            raise self._error(without_frames(error)) from None
        except ValueError as error:
            # What a closed channel raises, when another thread closed it since the check, or renewed it.
            self.check_open()
            if not is_of_closed_channel(error):
                raise
            raise renewed(self.target) from None

    def open_watch(self, requests: Iterator[pb.WatchRequest]) -> Any:
        """Begins a Watch stream with these requests, and returns the call; for this package."""
        return self._line.open(requests)

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed)

    def _error(self, error: grpc.RpcError) -> NeardictError:
        return ClosedError(self._closed) if self._closed else to_error(error, self.target)


# `dict` is a method inside the class.
dict_type = dict
