"""The synchronous client: the four operations, and dicts over them."""

import contextlib
import time
import types
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar, overload

import grpc

from . import (
    _channel,
    _chunks,
    _clock,
    _compression,
    _exiting,
    _forks,
    _green_threads,
    _lease,
    _operations,
    _replies,
    _requests,
    _timeouts,
    server_info,
    values,
)
from ._auditor import Auditor, AuditThread
from ._bulk import CALLS, Begun, bulk
from ._call_threads import CallThreads, Messages, Reply
from ._changes import Changes, Listener
from ._connection import Connection, Renewal
from ._connectivity import ConnectionObserver, Connectivity, check_watches
from ._executing import Executing
from ._exiting import is_finalizing
from ._expiry import ExpiryTimer
from ._large import Large
from ._lease import Consistency
from ._near import OnDisconnect
from ._observers import Teller
from ._operations import RPC, Kind, checked, late, response, word
from ._pages import Page, Pages
from ._pending import Pending, send, tell
from ._pipeline import Operation
from ._progress import OnProgress
from ._reading import Line
from ._reload import Reloader
from ._requests import Written
from ._retries import Attempts
from ._session import Session
from ._statuses import is_of_closed_channel, renewed, to_error, too_late
from ._threads import Naps, aside
from ._value_type import V
from ._watching import Watching
from .cached_dict import CachedDict
from .entry import Entry
from .errors import (
    AbsentKeyError,
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from .linearizable import LinearizableDict
from .server_info import ServerInfo
from .v1 import storage_pb2 as pb

_Answer = TypeVar("_Answer")


class Store:
    """A connection to the service. Thread-safe. A context manager; `close` may be called twice.

    Every call waits at most `timeout` seconds, a listing at most so long for each part of it, and raises
    the errors that `neardict.errors` lists: UnavailableError and DeadlineExceededError from any of them.
    Until then it is tried again while the service, or its backend, cannot be reached, as during a restart; a
    write is applied once all the same.

    A store does not survive a fork: in the child its methods raise ClosedError, and its dicts are empty.
    """

    of_loop = False  # for _forks

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
        compress = _compression.check(compression)
        self._timeout = _timeouts.check(timeout)
        # It stands for a stub, of the channel of now.
        self._stub = self._connection = connection = Connection(lambda: _channel.connect(settings))
        self._executing = executing = Executing(lambda requests: connection.open("Execute", requests), tell)
        self._calls = CallThreads(connection.hear)
        self._naps = Naps()
        self._large = Large(
            self.target,
            self._stub,
            self._calls,
            self._describe,
            self._translated,
            self._retried,
            self._seconds,
            compress=compress,
        )
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

        def heard() -> float:
            return max(executing.heard(), connection.heard)

        renewal = Renewal(renew, heard, time.monotonic, follows=follows)
        self._line = Line(settings, renewal.came_up)
        self._watching = Watching(session, self._line, renewal)
        # What ran before a fork.
        self._watched = self._ran = False
        if watch:
            self.changes.session = session
        self.expiry = ExpiryTimer()
        self._reloader = Reloader()
        self.reload = self._reloader.schedule
        for part in (self._executing, self._calls, self._watching, self._teller, self._reloader):
            weakref.finalize(self, part.drop).atexit = False
        self._audit: AuditThread | None = None
        # Only now, so that it ends with the store if this is interrupted.
        self._executing.resume()
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
        if is_finalizing():
            return  # there are no threads to be waited for
        aside(self._end)
        self._over = True

    def leave(self) -> None:
        """Ends the stream of changes for good, and gives leases back, as the process is about to end.

        Linearizable dicts ask the service from then on, others go on with what they hold. Calls go on.
        """
        if not self._over:
            aside(self._watching.close)

    def _end(self) -> None:
        """Ends everything, where no signal handler interrupts it."""
        self._naps.end()
        if self._audit is not None:
            self._audit.stop()
        self.expiry.close()
        self._reloader.close()
        self._watching.close()
        self._teller.close()
        self._executing.close(ClosedError(self._closed))
        for channel in self._connection.close():
            channel.close()
        self._calls.close()
        self._reloader.join()
        if self._audit is not None:
            self._audit.join()

    @overload
    def dict(
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
    def dict(
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

    def dict(
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
        kind: type[CachedDict[Any]] = (
            LinearizableDict if _lease.check(consistency, on_disconnect) else CachedDict
        )
        return kind(
            self,
            domain,
            value_type=value_type,
            ttl=ttl,
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
        self._audit.start()
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
        return values.decode(found.entry.value, self.accepted)

    def get_entry(self, domain: str, key: str, *, timeout: float | None = None) -> Entry | None:
        """Returns the value with its revision and time of expiry, None if the key is absent."""
        found = self.lookup(domain, key, timeout=timeout)
        return _requests.entry(found.entry, self.accepted) if found.found else None

    def set_value(
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
        """Stores the value and returns the revision of the write.

        `ttl`, in seconds or as timedelta, makes the entry expire; without one it does not, whatever was set
        before. With `keep_ttl` it expires when the present entry would; ConflictError if there is none.
        With `if_revision` or `if_absent` the write happens only if the entry has that revision, or does not
        exist; ConflictError otherwise.
        Raises UnsupportedValueError if the value would not come back as it is.
        """
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
            return (self.write(request, timeout=timeout)).revision
        operation = _operations.set_value(
            domain, key, value, ttl=ttl, if_revision=if_revision, if_absent=if_absent
        )
        return (self._write(operation, None, timeout)).revision

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
            for entry in page.entries:
                yield _requests.entry(entry, self.accepted)

    def get_many(
        self, domain: str, keys: Iterable[str], *, timeout: float | None = None
    ) -> "dict_type[str, Any]":
        """Returns the values of those keys that have one. Raises BulkError."""
        found = self.lookup_many(domain, keys, timeout=timeout)
        return {key: values.decode(r.entry.value, self.accepted) for key, r in found.items() if r.found}

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

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Returns the service's version, limits, backends and routes."""
        attempts = Attempts(self._seconds(timeout))
        return server_info.of(self._retried(attempts, lambda: self._describe(attempts.left())))

    # What follows is for this package: requests and responses as messages.

    @property
    def accepted(self) -> pb.Compression:
        """How values may be compressed that are answered."""
        return self._large.accepted

    @property
    def patience(self) -> float:
        """How many seconds a call may take that is given no time of its own."""
        return self._timeout

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
    ) -> Written:
        try:
            return self._write(word("set_value", request), by, timeout)
        except InvalidArgumentError as error:
            raise _requests.meaning(request, error) from None

    def _write(self, operation: Operation, by: Listener | None, timeout: float | None) -> Written:
        changes, domain, request = self.changes, operation.domain, None
        with changes.writing(domain, operation.key) as call:
            if operation.is_large:
                request = operation.request("set_value")
                response = self._large.set_value(
                    request,
                    timeout,
                    lambda wire, left: self._operate("set_value", word("set_value", wire), left),
                )
            else:
                response = self._operate("set_value", operation, timeout)
            if changes.listened(domain):
                request = request or operation.request("set_value")
                change = _requests.written(request, response, call)
                changes.publish(domain, change, but=by)
        return _requests.outcome(response)

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
        written: Callable[[str, Written], None] | None = None,
        timeout: float | None = None,
    ) -> "dict_type[str, int]":
        revisions: dict_type[str, int] = {}

        def answered(key: str, response: pb.SetValueResponse, call: int) -> None:
            revisions[key] = response.revision
            if written is not None:
                written(key, _requests.outcome(response))
            self.changes.publish(domain, _requests.written(requests[key], response, call), but=by)

        def in_chunks(key: str) -> int:
            outcome = self.write(requests[key], by=by, timeout=timeout)
            if written is not None:
                written(key, outcome)
            return outcome.revision

        def in_messages(some: Mapping[str, pb.SetValueRequest]) -> None:
            left = Attempts(self._seconds(timeout))
            wires = {key: self._large.wire(request, left.left()) for key, request in some.items()}
            self._write_bulk(domain, "set_value", wires, left.left(), answered)

        return _chunks.each(requests, revisions, in_messages, in_chunks)

    def pages(
        self,
        request: pb.AllKeysRequest,
        *,
        timeout: float | None = None,
        restart: Callable[[], None] | None = None,
    ) -> Iterator[Page]:
        """Yields the pages of a listing. One that breaks begins again with `restart`, which is called."""
        listing = Pages(request, self.target)

        def begin_again() -> None:
            listing.begin_again()
            if restart is not None:
                restart()

        pages = self._pages(request, timeout, None if restart is None else begin_again)
        return self._large.pages(request, listing, pages, timeout)

    def _pages(
        self, request: pb.AllKeysRequest, timeout: float | None, restart: Callable[[], None] | None
    ) -> Iterator[pb.AllKeysResponse]:
        self._large.accept(request)
        attempts = Attempts(self._seconds(timeout), since_failure=timeout is None)
        while True:
            begun = False
            try:
                listed = self._listed(request, None if timeout is None else attempts.left())
                with contextlib.closing(listed) as pages:
                    for page in pages:
                        begun = True
                        yield page
                return
            except NeardictError as error:
                if begun and restart is None:
                    raise  # what was yielded would come twice
                pause = attempts.pause(error)
            self._nap(pause)
            if restart is not None:
                restart()

    def _listed(
        self, request: pb.AllKeysRequest, timeout: float | None
    ) -> Generator[pb.AllKeysResponse, None, None]:
        # A listing may be long: without a bound for all of it there is one for each part.
        idle = self._timeout if timeout is None else None
        with (
            self._translated(),
            self._calls.stream(
                lambda: self._stub.AllKeys(request, timeout=timeout), idle=idle, seconds=timeout
            ) as pages,
        ):
            yield from pages

    def _describe(self, seconds: float) -> pb.GetServerInfoResponse:
        """Asks the service once what it is."""
        with self._translated():
            info: pb.GetServerInfoResponse | None = self._calls.unary(
                lambda: self._stub.GetServerInfo.future(pb.GetServerInfoRequest(), timeout=seconds), seconds
            ).result()
        return _replies.checked(info, _replies.info_problem, self.target)

    def reach(self, wait: float | None = None) -> ServerInfo:
        """Returns what the service is, as soon as it answers, within `wait` seconds. Raises UnavailableError.

        Without `wait` it has the time of a call, and a port that is refused, or the like, is told at once.
        """
        attempts = Attempts(self._timeout if wait is None else wait)
        while True:
            try:
                # No single attempt takes all the time, if the service hangs.
                return server_info.of(self._describe(min(attempts.left(), self._timeout)))
            except NeardictError as error:
                if wait is None and getattr(error, "_is_refused", False):
                    raise
                if isinstance(error, DeadlineExceededError):
                    pause = attempts.pause(UnavailableError(str(error)))
                else:
                    pause = attempts.pause(error)
            self._nap(pause)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else _timeouts.check(timeout)

    def _retried(self, attempts: Attempts, attempt: Callable[[], _Answer]) -> _Answer:
        """Makes the attempt, again and again until it succeeds, is hopeless or its time is over."""
        while True:
            try:
                return attempt()
            except NeardictError as error:
                pause = attempts.pause(error)
            self._nap(pause)

    def _nap(self, seconds: float) -> None:
        """Waits before another attempt. Raises ClosedError as soon as the store is closed."""
        self._naps.wait(seconds)
        self.check_open()

    def pause(self) -> bool:
        """Ends the streams for the time of a fork; returns whether to call `resume` after it."""
        # Noted there, as it may be called again, where it was interrupted.
        aside(self._pause)
        return self._watched or self._ran

    def _pause(self) -> None:
        self._reloader.pause()
        with self.connectivity.hold():
            self._watched = self._watching.pause() or self._watched
        self._ran = self._executing.pause() or self._ran
        self._ran = self._calls.pause() or self._ran

    def resume(self) -> None:
        """Opens the streams again, in the parent after a fork."""
        aside(self._resume)

    def _resume(self) -> None:
        self._ran = False
        self._executing.resume()
        self._calls.resume()
        if self._watched:
            self._watched = False
            self._watching.start()
        self._reloader.resume()

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
        self._reloader.forked()

    def _operate(self, kind: Kind, operation: Operation, timeout: float | None) -> Any:
        """Carries out an operation and returns the response of its RPC."""
        if not self._executing.takes(operation):
            return self._begin(kind, operation, timeout).settle()
        self.check_open()
        return self._finish(Pending(self._executing, operation, self._seconds(timeout)), kind, operation)

    def _begin(
        self,
        kind: Kind,
        operation: Operation,
        timeout: float | None,
        unsent: list[Operation] | None = None,
    ) -> Begun:
        """Sends an operation, or puts it there; what is returned is its first attempt."""
        seconds = self._seconds(timeout)
        self.check_open()
        if self._executing.takes(operation):
            # Known before it is sent, since an answer may come meanwhile.
            sure = self._executing.supported is True
            pending = Pending(self._executing, operation, seconds, unsent)
            return Begun(pending.cancel, lambda: self._finish(pending, kind, operation), sure=sure)
        request, attempts = operation.request(kind), Attempts(seconds)

        def begin() -> Begun:
            self.check_open()
            left = attempts.left()
            if operation.writes:
                attempts.sent()
            reply = self._calls.unary(
                lambda: getattr(self._stub, RPC[kind]).future(request, timeout=left), left
            )
            return Begun(reply.cancel, lambda: finish(reply), again, most=CALLS)

        def finish(reply: Reply) -> Any:
            if unsent:
                # What is gathered would wait as long as this call takes.
                send(self._executing, unsent)
            return self._called(reply, kind, operation, attempts)

        def again(error: NeardictError) -> Callable[[], Begun]:
            pause = attempts.pause(error)

            def begin_later() -> Begun:
                self._nap(pause)
                return begin()

            return begin_later

        return begin()

    def _finish(self, pending: Pending, kind: Kind, operation: Operation) -> Any:
        token = object()
        try:
            _forks.begin(token)
            outcome = pending.result()
        except TimeoutError:
            raise late(operation, self.target) from None
        finally:
            _forks.end(token)
        found = response(kind, operation, outcome, self.target)
        if found is not None:
            return found
        return self._begin(kind, operation, operation.deadline - _clock.now()).settle()

    def _called(self, reply: Reply, kind: Kind, operation: Operation, attempts: Attempts) -> Any:
        with self._translated():
            answer = reply.result()
        found = checked(kind, operation, answer, self.target, operation.accept)
        if operation.accept:
            self._large.hold((found.entry.value,), attempts.left())
        return found

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
        """Around calls that are waited for: turns what gRPC raises into errors of ours."""
        self.check_open()
        try:
            yield
        except grpc.RpcError as error:
            raise self._error(error) from None
        except TimeoutError as error:
            if isinstance(error, NeardictError):
                raise
            raise too_late(self.target) from None
        except ValueError as error:
            # What a closed channel raises, when another thread closed it since the check, or renewed it.
            self.check_open()
            if not is_of_closed_channel(error):
                raise
            raise renewed(self.target) from None

    def open_watch(self, requests: Iterator[pb.WatchRequest]) -> Messages:
        """Begins a Watch stream with these requests, and returns its messages; for this package."""
        return self._calls.stream(lambda: self._line.open(requests), heard=False)

    def check_open(self) -> None:
        if self._closed or is_finalizing():
            raise ClosedError(self._closed or _exiting.MESSAGE)

    def _error(self, error: grpc.RpcError) -> NeardictError:
        return ClosedError(self._closed) if self._closed else to_error(error, self.target)


# `dict` is a method inside the class.
dict_type = dict
