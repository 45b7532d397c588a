"""The client engine with a real stream: what it sends, and what becomes of it when something goes wrong."""

import gc
import itertools
import math
import signal
import subprocess
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from neardict import _bulk
from neardict._pipeline import Operation
from neardict._retries import BACKOFF
from neardict.v1 import storage_pb2 as pb
from served import Served

from .either import KINDS, Either
from .execute_server import ExecuteServer, error, plain
from .gate import DEADLINE
from .tcp_gate import TcpGate
from .threads import InThread

Responses = Iterator[pb.ExecuteResponse]


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "neardict execute"}


def until(true: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Stalling:
    """Answers all domains but "stalled", which waits for `go`. `begun` is set when that has come."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()

    def __call__(self, server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        kept: list[pb.Operation] = []

        def domain(one: pb.Operation) -> str:
            found: str = getattr(one, one.WhichOneof("operation") or "").domain
            return found

        for message in server.read(requests):
            kept += [one for one in message.operations if domain(one) == "stalled"]
            others = [one for one in message.operations if domain(one) != "stalled"]
            if kept:
                self.begun.set()
            if self.go.is_set():
                others, kept = kept + others, []
            if others:
                yield pb.ExecuteResponse(results=[server.carry_out(one) for one in others])


# What is sent.


def test_a_lone_operation_is_sent_at_once_and_alone() -> None:
    with ExecuteServer(plain) as server, neardict.connect(server.address, watch=False) as store:
        for number in range(20):
            store.set_value("a", "key", number)
            assert store.get_value("a", "key") == number
        assert [len(message.operations) for message in server.messages] == [1] * 40
        assert server.streams == 1
        assert not server.calls


def test_what_waits_while_a_message_is_on_its_way_travels_together(in_thread: InThread) -> None:
    arrived = threading.Event()

    with ExecuteServer(plain) as server, neardict.connect(server.address, watch=False) as store:
        open_stream = store._executing._open_stream

        def slowly(requests: Iterator[pb.ExecuteRequest]) -> Iterator[pb.ExecuteRequest]:
            for request in requests:
                yield request
                assert arrived.wait(DEADLINE)

        store._executing._open_stream = lambda requests: open_stream(slowly(requests))
        store.set_value("a", "first", 1)
        running = [in_thread(store.set_value, "a", str(number), number) for number in range(20)]
        until(lambda: store._executing._inbox.qsize() == 20)
        arrived.set()
        for one in running:
            one.result()
        assert [len(message.operations) for message in server.messages] == [1, 20]


def test_operations_of_many_threads_share_few_messages(server: Served, domain: str) -> None:
    with neardict.connect(server.address, watch=False) as store:
        messages: list[int] = []
        take = store._executing._pipeline.take

        def counted(now: float) -> tuple[pb.ExecuteRequest | None, list[Operation]]:
            request, given_up = take(now)
            if request is not None:
                messages.append(len(request.operations))
            return request, given_up

        store._executing._pipeline.take = counted  # type: ignore[method-assign]  # counts
        barrier = threading.Barrier(32)

        def use(name: int) -> None:
            barrier.wait(DEADLINE)
            for number in range(50):
                store.set_value(domain, f"{name}", number)
                assert store.get_value(domain, f"{name}") == number

        threads = [threading.Thread(target=use, args=(name,)) for name in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert sum(messages) == 32 * 100
        assert len(messages) < 32 * 100 / 2


def test_bulks_share_messages_and_keep_the_window(server: Served, domain: str) -> None:
    with neardict.connect(server.address, watch=False) as store:
        pipeline = store._executing._pipeline
        take, most, messages = pipeline.take, [0], [0]

        def counted(now: float) -> tuple[pb.ExecuteRequest | None, list[Operation]]:
            request, given_up = take(now)
            most[0] = max(most[0], len(pipeline._unanswered))
            messages[0] += request is not None
            return request, given_up

        pipeline.take = counted  # type: ignore[method-assign]  # counts
        expected = {str(number): number for number in range(20_000)}
        assert store.set_many(domain, expected).keys() == expected.keys()
        assert store.get_many(domain, expected) == expected
        assert store.delete_many(domain, expected) == 20_000
        assert most[0] <= _bulk.WINDOW
        assert messages[0] < 60_000 / 3


def test_large_values_go_as_calls_of_their_own() -> None:
    with ExecuteServer(plain) as server, neardict.connect(server.address, watch=False) as store:
        large = "x" * 20_000
        store.set_many("a", {"large": large, "small": 1, "larger": large})
        assert server.calls == ["SetValue", "SetValue"]
        assert len(server.operations) == 1
        assert store.get_value("a", "large") == large


# A service without the stream.


def test_a_service_without_the_stream_is_asked_by_calls_as_before() -> None:
    with ExecuteServer() as server, neardict.connect(server.address, watch=False) as store:
        assert store.set_value("a", "key", 1) == 1
        assert store.get_value("a", "key") == 1
        assert store.delete_key("a", "key")
        assert server.calls == ["SetValue", "GetValue", "DeleteKey"]
        d = store.dict("a", load=False)
        d["key"] = 2
        assert store.get_value("a", "key") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_was_missing_is_asked_for_again_on_the_next_connection(kind: str) -> None:
    def serve(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        if server.streams == 1:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "an older replica, or a proxy's 404")
        yield from plain(server, requests, context)

    with ExecuteServer(serve) as server, Either(kind, server.address, watch=False) as here:
        for _ in range(2):
            here(lambda store: store.set_value("a", "key", 1))
        assert server.calls == ["SetValue", "SetValue"]
        here(lambda store: (store._executing if kind == "threads" else store._pendings.executing).renew())
        for _ in range(2):
            here(lambda store: store.set_value("a", "key", 2))
        assert (server.calls, server.streams) == (["SetValue", "SetValue"], 2)


@pytest.mark.parametrize("times", range(3))
def test_a_bulk_finds_out_with_one_operation_that_there_is_no_stream(times: int) -> None:
    with ExecuteServer() as server, neardict.connect(server.address, watch=False) as store:
        opened: list[Operation] = []
        put = store._executing.put

        def counted(*operations: Operation) -> None:
            opened.extend(operations)
            put(*operations)

        store._executing.put = counted  # type: ignore[method-assign]  # counts
        expected = {str(number): number for number in range(3000)}
        store.set_many("a", expected)
        assert store.get_many("a", expected) == expected
        assert store.delete_many("a", expected) == 3000
        assert len(opened) == 1


# Deadlines.


def test_a_domain_that_stalls_costs_its_own_operations_their_time_and_no_others(in_thread: InThread) -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server, neardict.connect(server.address, watch=False) as store:
        bulk = in_thread(store.set_many, "stalled", {str(number): number for number in range(5000)})
        assert stalling.begun.wait(DEADLINE)
        with pytest.raises(neardict.DeadlineExceededError):
            store.get_value("stalled", "key", timeout=0.05)
        for number in range(50):
            store.set_value("other", "key", number)
        store.set_many("third", {str(number): number for number in range(3000)})
        assert not bulk.done()
        stalling.go.set()
        until(lambda: bulk.done() or store.set_value("other", "key", 1) is None)
        bulk.result()
        until(lambda: not store._executing._pipeline._load)
        assert server.streams == 1


def test_who_gives_up_has_the_service_told_and_what_comes_late_is_dropped() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server, neardict.connect(server.address, watch=False) as store:
        for _ in range(10):
            with pytest.raises(neardict.DeadlineExceededError):
                store.get_value("stalled", "key", timeout=0.02)
        until(lambda: len(server.cancelled) == 10)
        assert store._executing._pipeline._load == {"stalled": 10}
        stalling.go.set()
        store.set_value("other", "key", 1)
        assert store._executing._pipeline._load == {}
        store.set_value("stalled", "key", 2)
        assert store.get_value("stalled", "key") == 2


def test_many_who_give_up_on_a_domain_that_stalls_leave_nothing_behind() -> None:
    stalling = Stalling()
    with ExecuteServer(stalling) as server, neardict.connect(server.address, watch=False) as store:
        store.set_value("other", "key", 1)
        for _ in range(3):
            with pytest.raises(neardict.BulkError):
                store.set_many("stalled", dict.fromkeys(map(str, range(1500)), 0), timeout=0.3)
        store.get_value("other", "key")
        pipeline = store._executing._pipeline
        until(lambda: not pipeline._held and not pipeline._queue)
        assert len(pipeline._unanswered) <= _bulk.WINDOW
        assert len(server.operations) <= _bulk.WINDOW + 2


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_without_any_time_nothing_is_sent(seconds: float) -> None:
    with ExecuteServer(plain) as server, neardict.connect(server.address, watch=False) as store:
        with pytest.raises(neardict.DeadlineExceededError):
            store.set_value("a", "key", 1, timeout=seconds)
        store.set_value("a", "other", 1)
        assert len(server.operations) == 1


@pytest.mark.parametrize("seconds", [1e6, 1e12, 1e300, math.inf])
def test_any_time_is_enough(seconds: float) -> None:
    with ExecuteServer(plain) as server, neardict.connect(server.address, watch=False) as store:
        store.set_value("a", "key", 1, timeout=seconds)
        assert store.get_value("a", "key", timeout=seconds) == 1


def test_a_service_that_cannot_be_reached_is_named_within_the_time_and_in_the_end() -> None:
    with ExecuteServer(plain) as server:
        address = server.address
    with neardict.connect(address, watch=False, timeout=2) as store:
        began = time.monotonic()
        with pytest.raises((neardict.UnavailableError, neardict.DeadlineExceededError)):
            store.get_value("a", "key", timeout=0.2)
        assert time.monotonic() - began < 1.5
        with pytest.raises(neardict.UnavailableError, match="cannot reach neardict at"):
            store.get_value("a", "key")
        # In a bulk nobody waits one after the other.
        with pytest.raises(neardict.BulkError) as failure:
            store.set_many("a", dict.fromkeys(map(str, range(2000)), 1))
        assert len(failure.value.failures) == 2000
        assert time.monotonic() - began < 15


# Streams that end.


def test_a_write_whose_result_is_lost_with_its_stream_is_repeated_under_its_own_id() -> None:
    def losing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            response = server.answer(message)
            if server.streams < 3:
                context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants it")
            yield response

    with ExecuteServer(losing) as server, neardict.connect(server.address, watch=False) as store:
        store.set_value("a", "key", 1)
        assert server.applied == {server.operations[0].set_value.request_id: 3}
        assert server.streams == 3


@pytest.mark.parametrize("many", [1, 3000])
def test_all_operations_of_a_lost_stream_are_repeated_together(many: int) -> None:
    def losing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            if server.streams < 4 and len(server.operations) >= 500 * server.streams:
                context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants it")
            # As slow as a disk.
            time.sleep(0.001 * len(message.operations))
            yield server.answer(message)

    with ExecuteServer(losing) as server, neardict.connect(server.address, watch=False) as store:
        expected = {str(number): number for number in range(many)}
        store.set_many("a", expected, timeout=8)
        assert store.get_many("a", expected) == expected


def test_an_operation_whose_backend_is_down_is_tried_again_alone() -> None:
    failures = itertools.count()

    def failing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            for one in message.operations:
                if one.set_value.key == "down" and next(failures) < 3:
                    result = error(one.number, grpc.StatusCode.UNAVAILABLE, reason="BACKEND_UNAVAILABLE")
                else:
                    result = server.carry_out(one)
                yield pb.ExecuteResponse(results=[result])

    with ExecuteServer(failing) as server, neardict.connect(server.address, watch=False) as store:
        store.set_many("a", {"down": 1, "up": 2, "other": 3})
        keys = [one.set_value.key for one in server.operations]
        assert sorted(keys) == ["down"] * 4 + ["other", "up"]
        assert server.streams == 1


def test_a_backend_that_stays_down_is_named_at_the_deadline_and_not_asked_without_end() -> None:
    def failing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            code = grpc.StatusCode.UNAVAILABLE
            yield pb.ExecuteResponse(
                results=[error(one.number, code, reason="BACKEND_UNAVAILABLE") for one in message.operations]
            )

    with ExecuteServer(failing) as server, neardict.connect(server.address, watch=False) as store:
        began = time.monotonic()
        with pytest.raises(neardict.UnavailableError, match="as the test wants it") as caught:
            store.get_value("a", "key", timeout=3)
        assert caught.value.reason == "BACKEND_UNAVAILABLE"
        assert time.monotonic() - began >= 3
        # Less often each time, by half of the backoff at least.
        assert 5 <= len(server.operations) <= 2 * 3 / BACKOFF.longest + 5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, neardict.PermissionDeniedError),
        (grpc.StatusCode.UNAUTHENTICATED, neardict.PermissionDeniedError),
        (grpc.StatusCode.INVALID_ARGUMENT, neardict.InvalidArgumentError),
    ],
)
def test_a_stream_that_is_refused_for_good_is_not_opened_again(
    code: grpc.StatusCode, kind: type[Exception]
) -> None:
    def refusing(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        yield from ()
        context.abort(code, "as the test wants it")

    with ExecuteServer(refusing) as server, neardict.connect(server.address, watch=False) as store:
        with pytest.raises(kind, match="as the test wants it"):
            store.get_value("a", "key")
        assert server.streams == 1


def test_streams_that_end_at_once_are_not_opened_without_end() -> None:
    def ending(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        yield from ()

    with ExecuteServer(ending) as server, neardict.connect(server.address, watch=False) as store:
        with pytest.raises(neardict.UnavailableError, match="ends each stream at once"):
            store.get_value("a", "key", timeout=3)
        assert 5 <= server.streams <= 2 * 3 / BACKOFF.longest + 5


def test_an_idle_store_opens_no_stream_again() -> None:
    def once(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Responses:
        for message in server.read(requests):
            yield server.answer(message)
            return

    with ExecuteServer(once) as server, neardict.connect(server.address, watch=False) as store:
        for number in range(5):
            store.set_value("a", "key", number)
        until(lambda: store._executing._call is None)
        assert server.streams <= 10
        before = server.streams
        time.sleep(0.3)
        assert server.streams == before


CONFIG = """
default = "sqlite"
[backends.sqlite]
implementation = "sqlite"
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost_nor_applied_twice_when_the_service_is_started_anew_again_and_again(
    tmp_path: Path, how: signal.Signals
) -> None:
    (tmp_path / "neardict.toml").write_text(CONFIG)
    arguments: list[Any] = ["--config", tmp_path / "neardict.toml", "--data", tmp_path]
    with Served(*arguments, cwd=tmp_path) as served:
        arguments += ["--listen", served.address]
        stopped = threading.Event()
        done: dict[int, int] = {}
        failed: list[BaseException] = []
        with neardict.connect(served.address, watch=False, timeout=30) as store:

            def look(name: int) -> neardict.Entry | None:
                while True:
                    try:
                        return store.get_entry("d", str(name))
                    except neardict.UnavailableError:
                        continue  # it takes longer to start than is waited for

            def count(name: int) -> None:
                revision = None
                try:
                    while not stopped.is_set():
                        number = done.get(name, 0) + 1
                        try:
                            # Applied twice, the second would be a conflict.
                            revision = store.set_value(
                                "d", str(name), number, if_revision=revision, if_absent=revision is None
                            )
                        except neardict.UnavailableError:
                            entry = look(name)
                            revision = entry.revision if entry else None
                            found = entry.value if entry else 0
                            assert found in (number - 1, number)
                            number = found
                        done[name] = number
                except BaseException as caught:
                    failed.append(caught)

            threads = [threading.Thread(target=count, args=(name,)) for name in range(16)]
            for thread in threads:
                thread.start()
            for _ in range(3):
                before = sum(done.values())
                until(lambda before=before: failed or sum(done.values()) > before + 200)
                served.stop(how)
                served._args = [*served._args[:3], *map(str, arguments)]
                served.start()
            before = sum(done.values())
            until(lambda: failed or sum(done.values()) > before + 200)
            stopped.set()
            for thread in threads:
                thread.join(DEADLINE)
            assert not failed, failed[0]
            assert store.get_many("d", map(str, done)) == {
                str(name): number for name, number in done.items() if number
            }


def lose(gate: TcpGate) -> None:
    gate.cut()
    gate.release_replies()


def test_connections_that_are_cut_and_that_fall_silent_cost_time_and_nothing_else(
    server: Served, domain: str
) -> None:
    with TcpGate(server.address) as gate, neardict.connect(gate.address, watch=False) as store:
        revision = store.set_value(domain, "n", 0)
        for number in range(1, 40):
            if number % 4 == 1:
                gate.cut()
            if number % 4 == 2:
                # It has been carried out, and nobody hears of it.
                gate.hold_replies()
                threading.Timer(0.03, lose, [gate]).start()
            if number % 4 == 3:
                gate.close()
                threading.Timer(0.1, gate.open).start()
            revision = store.set_value(domain, "n", number, if_revision=revision)
        assert store.get_value(domain, "n") == 39


# Closing, and the end.


def test_operations_under_way_end_with_closed_error_at_once_and_no_thread_is_left(
    in_thread: InThread,
) -> None:
    stalling = Stalling()
    before = engine_threads()
    with ExecuteServer(stalling) as server:
        store = neardict.connect(server.address, watch=False, timeout=DEADLINE)
        store.set_value("other", "key", 1)
        running = [in_thread(store.get_value, "stalled", str(number)) for number in range(20)]
        running.append(in_thread(store.set_many, "stalled", dict.fromkeys(map(str, range(3000)), 1)))
        until(lambda: len(server.operations) > 1000)
        began = time.monotonic()
        store.close()
        for one in running[:-1]:
            with pytest.raises(neardict.ClosedError):
                one.result()
        with pytest.raises(neardict.BulkError) as failure:
            running[-1].result()
        assert {type(one) for one in failure.value.failures.values()} == {neardict.ClosedError}
        assert time.monotonic() - began < DEADLINE / 2
        assert engine_threads() <= before


def test_closing_while_threads_begin_operations_leaves_none_waiting(server: Served, domain: str) -> None:
    for _ in range(30):
        store = neardict.connect(server.address, watch=False, timeout=DEADLINE)
        ended: list[type[BaseException]] = []

        def use(store: neardict.Store = store, ended: list[type[BaseException]] = ended) -> None:
            try:
                while True:
                    store.set_value(domain, "key", 1)
            except BaseException as caught:
                ended.append(type(caught))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        store.close()
        for thread in threads:
            thread.join(DEADLINE)
        assert ended == [neardict.ClosedError] * 8
        assert time.monotonic() - began < DEADLINE / 2


def test_a_store_that_nobody_uses_any_more_ends_its_thread_and_connection(
    server: Served, domain: str
) -> None:
    before = engine_threads()
    for _ in range(5):
        store = neardict.connect(server.address, watch=False)
        store.set_value(domain, "key", 1)
        gone, channel = weakref.ref(store), weakref.ref(store._connection.channel)
        del store
        gc.collect()
        assert gone() is None
        until(lambda: engine_threads() <= before)
        until(lambda channel=channel: gc.collect() is not None and channel() is None)


def test_a_store_that_is_dropped_while_its_domain_stalls_ends_too() -> None:
    stalling = Stalling()
    before = engine_threads()
    with ExecuteServer(stalling) as server:
        store = neardict.connect(server.address, watch=False)
        with pytest.raises(neardict.DeadlineExceededError):
            store.get_value("stalled", "key", timeout=0.05)
        del store
        gc.collect()
        until(lambda: engine_threads() <= before)


SIGNALS = """
import random, signal, sys, time
import neardict
target, domain = sys.argv[1:]
store = neardict.connect(target, watch=False)
store.set_value(domain, "key", 1)
handled = 0

def handle(*_):
    global handled
    assert store.get_value(domain, "key") == 1
    if handled % 7 == 0:
        assert store.get_many(domain, ["key", "absent"]) == {"key": 1}
    handled += 1
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))

signal.signal(signal.SIGALRM, handle)
ends = time.monotonic() + 4
signal.setitimer(signal.ITIMER_REAL, 0.001)
others = iter(lambda: neardict.connect(target, watch=False), None)
number = 0
while time.monotonic() < ends:
    store.get_value(domain, "key")
    number += 1
    if number % 50 == 0:
        # Also while one begins, and ends.
        with next(others) as other:
            other.get_value(domain, "key")
signal.setitimer(signal.ITIMER_REAL, 0)
assert handled > 50 and number > 50, (handled, number)
store.close()
"""


def test_a_signal_handler_may_use_the_store_wherever_it_interrupts_the_engine(
    server: Served, domain: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALS, server.address, domain], timeout=60, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_at_each_line_of_the_engine_a_handler_may_use_the_store(server: Served, domain: str) -> None:
    """Each line once: as a signal would, but none is left to chance."""
    package = str(Path(neardict.__file__).parent)
    with neardict.connect(server.address, watch=False) as store:
        store.set_value(domain, "key", 1)
        seen: set[tuple[str, int]] = set()

        def trace(frame: types.FrameType, event: str, argument: object) -> Any:
            if not frame.f_code.co_filename.startswith(package):
                return None
            place = (frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and place not in seen:
                seen.add(place)
                sys.settrace(None)
                assert store.get_value(domain, "key", timeout=5) == 1
                sys.settrace(trace)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            store.get_value(domain, "key")
            store.set_many(domain, {"a": 1, "b": 2})
            with pytest.raises(neardict.DeadlineExceededError):
                store.get_value(domain, "key", timeout=-1)
        finally:
            sys.settrace(before)
        assert len(seen) > 50


ENDS = {
    "idle": "store.get_value(domain, 'key')",
    "never used": "",
    "with a thread in a loop": """
def use():
    while True:
        store.get_value(domain, "key")
threading.Thread(target=use, daemon=True).start()
time.sleep(0.3)
""",
    "with a bulk under way": """
threading.Thread(
    target=lambda: store.set_many(domain, dict.fromkeys(map(str, range(10**6)), 1)), daemon=True
).start()
time.sleep(0.3)
""",
    "in an atexit handler": """
import atexit
atexit.register(lambda: print(store.get_value(domain, "key")))
""",
    "asyncio, idle": """
async def main():
    store = aio.connect(target, watch=False)
    await store.get_value(domain, "key")
asyncio.run(main())
""",
    "asyncio, with tasks that write when they are cancelled": """
async def main():
    store = aio.connect(target, watch=False)
    await store.get_value(domain, "key")
    async def work():
        try:
            await asyncio.sleep(1000)
        finally:
            await store.set_value(domain, "last", 1)
            print("written")
    global task
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("name", list(ENDS))
def test_a_program_ends_whatever_its_store_is_doing(server: Served, domain: str, name: str) -> None:
    with neardict.connect(server.address, watch=False) as mine:
        mine.set_value(domain, "key", 1)
    program = (
        "import asyncio, sys, threading, time, neardict\nfrom neardict import aio\n"
        "target, domain = sys.argv[1:]\nstore = neardict.connect(target, watch=False)\n" + ENDS[name]
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, server.address, domain], timeout=30, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    if "print" in ENDS[name]:
        assert ended.stdout.strip() in ("1", "written")
