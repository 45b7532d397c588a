"""The engine's threads end whenever they are told to, also between a look at that and the next step."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from neardict import ClosedError, _operations
from neardict._executing import _LOOK, Executing
from neardict._pending import Pending, tell
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

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


class Interrupted(Executing):
    """Is ended by another thread just after one of its own has looked for the `when`th time whether it is."""

    def __init__(self, open_stream: Any, when: int, end: Callable[[Executing], Any]) -> None:
        self._looks = 0
        self._ends = False
        self._when = when
        self._end = end
        self.ending: Running | None = None
        super().__init__(open_stream, tell)

    @property
    def _stopped(self) -> bool:
        ends = self._ends
        if threading.current_thread() is not threading.main_thread() and self.ending is None:
            self._looks += 1
            if self._looks == self._when:
                self.ending = Running(self._end, self)
                # It has told this thread, which goes on with what it has seen.
                until(lambda: self._ends and self._inbox.qsize())
        return ends

    @_stopped.setter
    def _stopped(self, ends: bool) -> None:
        self._ends = ends


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
