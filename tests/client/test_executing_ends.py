"""The engine's threads end whenever they are told to, also between a look at that and the next step."""

import gc
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from neardict import ClosedError, _operations
from neardict._executing import _LOOK, Executing
from neardict._pending import Pending, tell
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served

from .execute_server import ExecuteServer
from .gate import DEADLINE
from .test_executing import Stalling
from .threads import Running, until

CLOSED = ClosedError("as the test wants it")
ENDS: dict[str, Callable[[Executing], Any]] = {
    "drop": Executing.drop,
    "pause": Executing.pause,
    "close": lambda engine: engine.close(CLOSED),
}
# Whether there is something to do, twice; after a stream is open; what there is to send, twice.
LOOKS = range(1, 6)


class Inbox(queue.SimpleQueue[Any]):
    """Counts how often somebody was told to look."""

    told = 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        self.told += item is _LOOK


class Interrupted(Executing):
    """Is ended by another thread just after one of its own has looked for the `when`th time whether it is."""

    def __init__(self, open_stream: Any, when: int, end: Callable[[Executing], Any]) -> None:
        self._looks = 0
        self._ends = False
        self._when = when
        self._end = end
        self._told = Inbox()
        self.ending: Running | None = None
        super().__init__(open_stream, tell)
        self.resume()

    @property
    def _stopped(self) -> bool:
        ends = self._ends
        if threading.current_thread() is not threading.main_thread() and self.ending is None:
            self._looks += 1
            if self._looks == self._when:
                before = self._told.told
                self.ending = Running(self._end, self)
                # It has told this thread, which goes on with what it has seen.
                until(lambda: self._ends and self._told.told > before)
        return ends

    @_stopped.setter
    def _stopped(self, ends: bool) -> None:
        self._ends = ends

    @property
    def _inbox(self) -> queue.SimpleQueue[Any]:
        return self._told

    @_inbox.setter
    def _inbox(self, inbox: queue.SimpleQueue[Any]) -> None:
        """Has one of its own."""


@pytest.fixture
def stub() -> Iterator[Any]:
    with (
        ExecuteServer(Stalling()) as server,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        yield storage_pb2_grpc.StorageServiceStub(channel)


@pytest.mark.parametrize("when", LOOKS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_it_ends_however_late_it_is_told(stub: Any, end: Callable[[Executing], Any], when: int) -> None:
    engine = Interrupted(stub.Execute, when, end)
    thread = engine._thread
    assert thread is not None
    if when > 1:
        operation = _operations.get_value("stalled", "key", pb.COMPRESSION_UNSPECIFIED)
        Pending(engine, operation, DEADLINE)
    until(lambda: engine.ending is not None)
    assert engine.ending is not None
    assert engine.ending.error() is None
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_what_tells_a_thread_to_end_may_be_taken_by_another_that_is_refused(stub: Any) -> None:
    engine = Executing(stub.Execute, tell)
    engine.resume()
    thread = engine._thread
    assert thread is not None

    class Taken(queue.SimpleQueue[Any]):
        taken = False
        asked = threading.Event()

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            self.asked.set()
            return super().get(block, timeout)

        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            if item is _LOOK and not self.taken:
                # Who puts an operation now is refused, and takes in all that is here.
                self.taken = True
                engine._refuse(CLOSED)
            else:
                super().put(item)

    inbox = Taken()
    waking, engine._inbox = engine._inbox, inbox
    waking.put(_LOOK)
    assert inbox.asked.wait(DEADLINE)
    closing = Running(engine.close, CLOSED)
    assert closing.error() is None
    assert inbox.taken
    assert not thread.is_alive()


def test_what_tells_that_a_stream_is_over_may_be_taken_before_it_is_looked_at(stub: Any) -> None:
    engine = Executing(stub.Execute, tell)
    engine.resume()
    engine.pause()
    engine._stopped = False

    class Over(threading.Event):
        def is_set(self) -> bool:
            was = super().is_set()
            if not was:  # it ends just after
                self.set()
                engine._inbox.put(_LOOK)
            return was

    assert Running(list, engine._requests(Over(), threading.Lock())).result() == []


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# At the end of the process gRPC may wait for ever, where it has to collect a call.
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("serve", [Stalling(), None], ids=["it is cancelled", "the service has none"])
def test_no_call_is_left_to_the_garbage_collector(serve: Any) -> None:
    calls: list[weakref.ref[Any]] = []
    with ExecuteServer(serve) as server, grpc.insecure_channel(server.address) as channel:

        def open_stream(requests: Any) -> Any:
            call = storage_pb2_grpc.StorageServiceStub(channel).Execute(requests)
            calls.append(weakref.ref(call))
            return call

        engine = Executing(open_stream, tell)
        engine.resume()
        operation = _operations.get_value("d", "key", pb.COMPRESSION_UNSPECIFIED)
        assert Pending(engine, operation, DEADLINE).result() is not None
        engine.close(CLOSED)
        until(lambda: all(call() is None for call in calls))
        assert calls


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("goes", [False, True], ids=["the store is closed", "the service goes"])
def test_nor_is_one_that_reads_changes(tmp_path: Path, *, goes: bool) -> None:
    calls: list[weakref.ref[Any]] = []
    with Served("--data", tmp_path) as server, neardict.connect(server.address) as store:
        open_stream = store._line.open

        def opened(requests: Any) -> Any:
            call = open_stream(requests)
            calls.append(weakref.ref(call))
            return call

        store._line.open = opened  # type: ignore[method-assign]
        store.dict("d")
        if goes:
            server.kill()
            until(lambda: len(calls) > 1)
        store.close()
        until(lambda: all(call() is None for call in calls))
        assert calls
