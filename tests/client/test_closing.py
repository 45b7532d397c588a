"""Stores end whole: dropped, interrupted, closed by several threads, or closed while something fails."""

import gc
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import neardict
from neardict import _channel, _reading
from neardict._reading import Reading
from neardict._watching import Watching
from neardict.v1 import storage_pb2_grpc
from served import Served

from .gate import DEADLINE
from .threads import Running, until, waits_in


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("neardict ")}


@pytest.fixture
def before() -> set[threading.Thread]:
    return threads()


@pytest.fixture
def store(server: Served) -> Iterator[neardict.Store]:
    """One that watches."""
    with neardict.connect(server.address) as store:
        yield store


def is_closed(channel: Any) -> bool:
    try:
        channel._channel.check_connectivity_state(False)
    except ValueError:
        return True
    return False


def test_a_store_that_nobody_holds_ends_its_threads_and_connections(
    server: Served, domain: str, before: set[threading.Thread]
) -> None:
    store = neardict.connect(server.address)
    mirror = store.dict(domain)
    heard = threading.Event()
    with mirror.on_change(lambda *_: heard.set()):
        mirror["key"] = 1
        assert heard.wait(DEADLINE)
    names = {thread.name for thread in threads() - before}
    assert names >= {"neardict execute", "neardict watch", "neardict ping", "neardict callbacks"}
    gone, stream = weakref.ref(store), store._line._channel
    del store, mirror
    gc.collect()
    assert gone() is None
    until(lambda: threads() <= before)
    until(lambda: is_closed(stream))


class OnceInterrupted(threading.Thread):
    """Who joins it is interrupted, the first time."""

    interrupts = True

    def join(self, timeout: float | None = None) -> None:
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        super().join(timeout)


@pytest.mark.parametrize("name", ["neardict watch", "neardict ping", "neardict execute"])
def test_closing_goes_on_where_it_was_interrupted(
    before: set[threading.Thread], store: neardict.Store, domain: str, name: str
) -> None:
    store.dict(domain)["key"] = 1
    (thread,) = (thread for thread in threads() - before if thread.name == name)
    thread.__class__ = OnceInterrupted
    with pytest.raises(KeyboardInterrupt):
        store.close()
    store.close()
    assert threads() <= before
    assert is_closed(store._connection.channel)
    assert store._line._channel is None


class Opening:
    """Holds up the thread that opens a stream of changes, until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        opening = self

        class Stub(storage_pb2_grpc.StorageServiceStub):
            def __init__(self, channel: grpc.Channel) -> None:
                opening.inside.set()
                assert opening.go.wait(DEADLINE)
                super().__init__(channel)

        monkeypatch.setattr(storage_pb2_grpc, "StorageServiceStub", Stub)


def test_who_closes_waits_for_threads_that_another_has_told_to_end(
    server: Served, monkeypatch: pytest.MonkeyPatch, before: set[threading.Thread]
) -> None:
    store = neardict.connect(server.address)
    opening = Opening(monkeypatch)
    store._watching.start()
    assert opening.inside.wait(DEADLINE)
    pausing = Running(store.pause)  # as a fork does
    until(lambda: waits_in(pausing, "join"))
    closing = Running(store.close)
    until(lambda: waits_in(closing, "join"))
    opening.go.set()
    assert pausing.result() is True
    assert closing.error() is None
    store.resume()
    assert threads() <= before
    assert store._line._channel is None


def test_a_line_that_is_closed_while_it_opens_a_stream_leaves_none(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Opening(monkeypatch)
    line = _reading.Line(_channel.Settings(server.address))
    requests: queue.SimpleQueue[None] = queue.SimpleQueue()
    running = Running(line.open, iter(requests.get, None))
    assert opening.inside.wait(DEADLINE)
    line.close()
    opening.go.set()
    assert running.result().code() is grpc.StatusCode.CANCELLED
    requests.put(None)
    assert line._channel is None


def test_a_stream_that_could_not_be_opened_is_opened_later(
    store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect, failures = _channel.connect, [RuntimeError("can't start new thread")] * 2

    def sometimes(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return connect(*args)

    monkeypatch.setattr(_channel, "connect", sometimes)
    mirror = store.dict(domain)
    until(lambda: mirror.fresh)
    assert not failures
    assert "begins again: RuntimeError at" in caplog.text


@pytest.mark.parametrize("failing", ["neardict watch", "neardict ping"])
def test_threads_that_cannot_be_started_are_started_with_the_next_dict(
    before: set[threading.Thread],
    store: neardict.Store,
    domain: str,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def sometimes(thread: threading.Thread) -> None:
        if thread.name == failing and failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sometimes)
    with pytest.raises(RuntimeError):
        store.dict(domain)
    assert not [thread for thread in threads() - before if thread.name in ("neardict watch", "neardict ping")]
    mirror = store.dict(domain)
    until(lambda: mirror.fresh)


def test_a_signal_handler_may_make_a_dict_and_close_while_threads_start(
    server: Served, domain: str, monkeypatch: pytest.MonkeyPatch, before: set[threading.Thread]
) -> None:
    store = neardict.connect(server.address, timeout=0.2)
    start, handled = Reading.start, threading.Event()

    def interrupted(reading: Reading) -> None:
        # What a handler would do here, in the same thread.
        if not handled.is_set():
            handled.set()
            store.dict(f"{domain}.other")
            store.close()
        start(reading)

    monkeypatch.setattr(Reading, "start", interrupted)
    with pytest.raises(neardict.ClosedError):
        store.dict(domain)
    assert handled.is_set()
    until(lambda: threads() <= before)


def test_an_audit_that_begins_as_the_store_closes_ends(
    before: set[threading.Thread], store: neardict.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = store.check_open

    def closed_meanwhile() -> None:
        check()
        monkeypatch.undo()
        store.close()

    monkeypatch.setattr(store, "check_open", closed_meanwhile)
    store.audit()
    until(lambda: threads() <= before)


def test_nothing_waits_for_a_lock_where_a_store_is_dropped() -> None:
    # The garbage collector may run in any thread, and hold up whatever that is doing.
    watching = Watching(None, None, None)  # type: ignore[arg-type]  # none is used
    watching._threads = (Reading(None, None), threading.Thread())  # type: ignore[arg-type]
    with watching._lock, watching._threads[0]._lock:
        Running(watching.drop).result()
