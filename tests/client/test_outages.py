"""A service that is away for some seconds: calls wait for it, end when they are told to, and say why."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import neardict
from neardict import _chunks, _clock, _executing, _pending, _pipeline, _retries, aio
from neardict._bulk import CALLS
from neardict.v1 import storage_pb2 as pb
from served import Served

from .both import CLIENTS, wait
from .execute_server import ExecuteServer, error, plain
from .gate import DEADLINE
from .scripted_service import FailedError, ScriptedService
from .tcp_gate import TcpGate
from .threads import InThread, until, waits_in

# Longer than a call was tried for when it had five attempts.
AWAY_SECONDS = 4.0


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_service_that_is_away_for_seconds_fails_no_call_of_any_kind(
    server: Served, domain: str, in_thread: InThread
) -> None:
    large = b"x" * 90_000
    with TcpGate(server.address) as network, neardict.connect(network.address) as store:
        mirror, cache = store.dict(domain), store.dict(domain, load=False)
        mirror.update(a=1, b=2, c=3, large=large)
        until(lambda: mirror.fresh)
        calls: list[Callable[[], Any]] = [
            lambda: mirror["a"],
            lambda: len(mirror),
            lambda: mirror.__setitem__("b", 20),
            lambda: mirror.edit("c", lambda value: value + 1),
            lambda: cache["a"],
            lambda: store.get_many(domain, ["a", "large"]),
            lambda: store.set_many(domain, {"d": 4, "e": 5}),
            lambda: store.set_value(domain, "large", large),
            lambda: list(store.all_keys(domain)),
            lambda: list(store.all_entries(domain)),
            lambda: store.dict(domain).snapshot(),
            lambda: store.server_info(),
        ]
        network.close()
        until(lambda: not mirror.fresh and not cache.fresh)
        running = [in_thread(call) for call in calls]
        threading.Event().wait(AWAY_SECONDS)
        assert not any(one.done() for one in running)
        network.open()
        began = time.monotonic()
        for one in running:
            one.result()
        # The next attempt comes soon, and not at the end of a long backoff.
        assert time.monotonic() - began < 5
        assert mirror.snapshot() == {"a": 1, "b": 20, "c": 4, "d": 4, "e": 5, "large": large}


def test_large_values_wait_too(data: Any, in_thread: InThread, tmp_path: Any) -> None:
    large = b"x" * 5_000_000
    limits = {"NEARDICT_LIMITS__MAX_VALUE_BYTES": "8000000"}
    with (
        Served("--data", tmp_path, env=limits) as server,
        TcpGate(server.address) as network,
        neardict.connect(network.address, watch=False) as store,
    ):
        store.set_value("d", "read", large)
        network.close()
        writing = in_thread(store.set_value, "d", "written", large)
        reading = in_thread(store.get_value, "d", "read")
        threading.Event().wait(AWAY_SECONDS)
        network.open()
        assert reading.result() == large
        writing.result()
        assert store.get_value("d", "written") == large


class Together(ExecuteServer):
    """A service without streams. When `together` is set it answers calls by 8: one alone waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.together = False
        self._barrier = threading.Barrier(8)

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        carry_out = super()._unary(name)

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            if self.together:
                self._barrier.wait(DEADLINE)
            return carry_out(request, context)

        return unary


@pytest.mark.parametrize("client", [*CLIENTS])
async def test_an_old_service_without_streams_is_waited_for_too_by_a_whole_bulk_at_once(client: str) -> None:
    # As many under way at once as make whole eights, and in all.
    many = {str(number): number for number in range(16 * CALLS)}
    with Together() as server, TcpGate(server.address) as network:
        store = CLIENTS[client].connect(network.address, watch=False, timeout=30)
        try:
            await wait(store.set_value("d", "key", 0))
            network.close()

            async def write() -> None:
                await wait(store.set_many("d", many))

            # In a thread of its own, where it would hold up the loop.
            writing = asyncio.create_task(
                write() if client == "asyncio" else asyncio.to_thread(store.set_many, "d", many)
            )
            await asyncio.sleep(AWAY_SECONDS)
            server.together = True
            network.open()
            await writing
            server.together = False
            assert await wait(store.get_many("d", many)) == many
        finally:
            await wait(store.close())
        # Repeated under its own id, each was applied once.
        assert len(server.applied) == 16 * CALLS + 1


# How the time ends.


@pytest.mark.parametrize("timeout", [0.5, 2.0])
def test_a_refused_port_is_named_at_the_deadline_and_not_before_nor_long_after(timeout: float) -> None:
    target = unused_address()
    with neardict.connect(target, timeout=timeout) as store:
        calls: list[Callable[[], Any]] = [
            lambda: store.get_value("d", "k"),
            lambda: store.set_value("d", "k", 1),
            lambda: store.set_value("d", "k", "x" * 50_000),
            lambda: store.server_info(),
            lambda: list(store.all_keys("d")),
            lambda: store.dict("d"),
        ]
        for call in calls:
            began = time.monotonic()
            with pytest.raises(neardict.UnavailableError) as caught:
                call()
            assert timeout / 2 - 0.1 < time.monotonic() - began < timeout + 2
            assert f"cannot reach neardict at {target}: connection refused" in str(caught.value)
            assert "--target" in str(caught.value)
            assert caught.value.reason == ""


def down_then_silent(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    """Says at first that the backend is down, and then nothing."""
    for number, message in enumerate(server.read(requests)):
        if number == 0:
            yield pb.ExecuteResponse(
                results=[
                    error(one.number, grpc.StatusCode.UNAVAILABLE, reason="BACKEND_UNAVAILABLE")
                    for one in message.operations
                ]
            )


def test_a_deadline_with_an_attempt_in_flight_says_what_came_of_the_one_before() -> None:
    with (
        ExecuteServer(down_then_silent) as server,
        neardict.connect(server.address, watch=False) as store,
    ):
        with pytest.raises(neardict.DeadlineExceededError) as caught:
            store.set_value("d", "k", 1, timeout=1)
        assert "did not respond in time" in str(caught.value)
        assert "as the test wants it" in str(caught.value)
        assert caught.value.reason == "BACKEND_UNAVAILABLE"
        # The first attempt of another says nothing of that.
        with pytest.raises(neardict.DeadlineExceededError) as caught:
            store.set_value("d", "k", 1, timeout=0.2)
        assert "as the test wants it" not in str(caught.value)


def test_a_write_that_was_perhaps_applied_is_in_doubt_whichever_error_it_ends_with(domain: str) -> None:
    def lost(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for message in server.read(requests):
            if any(one.HasField("set_value") for one in message.operations):
                server.answer(message)
                context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants it")
            yield server.answer(message)

    with ExecuteServer(lost) as server, neardict.connect(server.address, watch=False) as store:
        d = store.dict(domain, load=False)
        assert "key" not in d
        with pytest.raises(neardict.UnavailableError):
            store.set_value(domain, "key", 1, timeout=0.5)
        assert len(server.applied) == 1
        assert d["key"] == 1


# What ends a wait.


def test_a_store_that_is_closed_ends_every_wait_at_once(in_thread: InThread) -> None:
    with neardict.connect(unused_address(), timeout=60, watch=False) as store:
        running = [
            in_thread(call)
            for call in (
                lambda: store.get_value("d", "k"),
                lambda: store.set_value("d", "k", 1),
                lambda: store.set_value("d", "k", "x" * 50_000),
                lambda: store.set_value("d", "k", "x" * 5_000_000),
                lambda: store.set_many("d", {str(number): 1 for number in range(2000)}),
                lambda: store.server_info(),
                lambda: list(store.all_keys("d")),
                lambda: store.reach(60),
            )
        ]
        until(lambda: all(waits_in(one, "wait") or waits_in(one, "result") for one in running))
        began = time.monotonic()
        store.close()
        for one in running:
            caught = one.error()
            if isinstance(caught, neardict.BulkError):
                caught = next(iter(caught.failures.values()))
            assert isinstance(caught, neardict.ClosedError)
        assert time.monotonic() - began < 5


class InterruptedByTestError(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("name", ["get_value", "server_info", "all_keys", "large"])
def test_a_signal_handler_that_raises_ends_a_wait_and_one_that_closes_does_not_hang(name: str) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise InterruptedByTestError

    with neardict.connect(unused_address(), timeout=60, watch=False) as store:
        calls: dict[str, Callable[[], Any]] = {
            "get_value": lambda: store.get_value("d", "k"),
            "server_info": lambda: store.server_info(),
            "all_keys": lambda: list(store.all_keys("d")),
            "large": lambda: store.set_value("d", "k", "x" * 5_000_000),
        }
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(InterruptedByTestError):
                calls[name]()
            signal.signal(signal.SIGALRM, lambda number, frame: store.close())
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(neardict.ClosedError):
                calls[name]()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_a_fork_during_a_wait_harms_neither_process(server: Served, domain: str, in_thread: InThread) -> None:
    with TcpGate(server.address) as network, neardict.connect(network.address, watch=False) as store:
        store.set_value(domain, "key", 1)
        network.close()
        running = [in_thread(store.set_value, domain, "key", 2), in_thread(store.server_info)]
        until(lambda: network.attempts > 1)
        child = os.fork()
        if not child:
            try:
                store.get_value(domain, "key")
            except neardict.ClosedError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        network.open()
        for one in running:
            one.result()
        assert store.get_value(domain, "key") == 2


# Waiting for a service to come up.


def test_connect_waits_for_a_service_that_comes_up(in_thread: InThread, tmp_path: Any) -> None:
    address = unused_address()
    connecting = in_thread(lambda: neardict.connect(address, wait=60, watch=False))
    until(lambda: waits_in(connecting, "wait"))
    with Served("--listen", address, "--data", tmp_path):
        store = connecting.result()
        store.set_value("d", "k", 1)
        assert store.get_value("d", "k") == 1
        store.close()


def test_connect_waits_for_no_longer_and_says_what_came_of_it_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    target = unused_address()
    began = time.monotonic()
    with pytest.raises(
        neardict.UnavailableError, match=f"cannot reach neardict at {target}: connection refused"
    ):
        neardict.connect(target, wait=1)
    assert time.monotonic() - began < 6
    until(lambda: not [one for one in set(threading.enumerate()) - before if "neardict" in one.name])


def test_connect_waits_through_attempts_that_hang(in_thread: InThread) -> None:
    with ExecuteServer(plain) as server, TcpGate(server.address) as network:
        network.hold_replies()
        with pytest.raises(neardict.UnavailableError, match=r"did not (answer|respond in time)"):
            neardict.connect(network.address, wait=1, timeout=0.3)


@pytest.mark.parametrize("wait", ["5", True, float("nan"), [1]])
def test_what_is_no_time_is_refused(wait: Any) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="wait must be a number of seconds"):
        neardict.connect("localhost:1", wait=wait)


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    # It has no GetServerInfo.
    with ExecuteServer(plain) as server, pytest.raises(neardict.ServiceError, match="does not serve"):
        neardict.connect(server.address, wait=DEADLINE)


class Forgetful(ExecuteServer):
    """Applies each write, and breaks the connection in place of an answer."""

    def __init__(self) -> None:
        def serve(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Any:
            for message in server.read(requests):
                server.answer(message)
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield pb.ExecuteResponse()

        super().__init__(serve)

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        carry_out = super()._unary(name)

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            carry_out(request, context)
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

        return unary


@pytest.fixture
def soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_pipeline, _retries):
        monkeypatch.setattr(module, "REPEAT_SECONDS", 1.0)


@pytest.mark.parametrize("size", [10, 50_000], ids=["on a stream", "as a call"])
@pytest.mark.parametrize("client", [*CLIENTS])
async def test_a_write_is_not_sent_again_when_the_service_may_have_forgotten_it(
    client: str, size: int, soon_forgotten: None
) -> None:
    with Forgetful() as server:
        store = CLIENTS[client].connect(server.address, watch=False)
        try:
            with pytest.raises(neardict.UnavailableError, match=r"not sent again.* the connection broke"):
                await wait(store.set_value("d", "k", "x" * size, timeout=60))
            ((_, times),) = server.applied.items()  # by one request id
            assert times > 2
        finally:
            await wait(store.close())


@pytest.mark.parametrize("client", [*CLIENTS])
async def test_nor_after_the_machine_has_slept(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = 0.0
    for module in (_executing, _pending, aio._executing, aio._pending):
        monkeypatch.setattr(module, "now", lambda: _clock.now() + slept)

    def sleep(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Any:
        nonlocal slept
        for message in server.read(requests):
            server.answer(message)
            slept += 3600
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        yield pb.ExecuteResponse()

    with ExecuteServer(sleep) as server:
        store = CLIENTS[client].connect(server.address, watch=False)
        try:
            with pytest.raises(neardict.UnavailableError):
                await wait(store.set_value("d", "k", 1))
        finally:
            await wait(store.close())
        assert [*server.applied.values()] == [1]


def test_small_values_of_a_bulk_do_not_wait_for_large_ones() -> None:
    small = threading.Event()

    class Slow(ExecuteServer):
        def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
            carry_out = super()._unary(name)

            def unary(request: Any, context: grpc.ServicerContext) -> Any:
                assert small.wait(DEADLINE)
                return carry_out(request, context)

            return unary

    def serve(server: ExecuteServer, requests: Any, context: grpc.ServicerContext) -> Any:
        for message in server.read(requests):
            small.set()
            yield server.answer(message)

    with Slow(serve) as server, neardict.connect(server.address, watch=False, timeout=DEADLINE) as store:
        store.set_value("d", "k", 0)  # from now on it is known that there is a stream
        small.clear()
        store.set_many("d", {"large": "x" * 50_000, "small": 1, "another": "y" * 50_000, "last": 2})


@pytest.mark.parametrize("client", [*CLIENTS])
async def test_nor_is_one_in_chunks(client: str, soon_forgotten: None) -> None:
    sent: list[float] = []

    def break_off(request: None) -> None:
        sent.append(time.monotonic())
        raise FailedError(grpc.StatusCode.UNAVAILABLE)

    with ScriptedService() as service:
        service.answers["WriteValue"] = break_off
        store = CLIENTS[client].connect(service.address, watch=False)
        try:
            with pytest.raises(neardict.UnavailableError, match=r"not sent again.* as the test wants it"):
                await wait(store.set_value("d", "k", bytes(5_000_000), timeout=60))
        finally:
            await wait(store.close())
    assert len(sent) > 1


def test_a_write_in_chunks_may_be_applied_when_its_last_part_is_sent() -> None:
    request = pb.SetValueRequest(domain="d", key="k", value=pb.Value(raw=bytes(1_000_000)))
    outgoing = _chunks.Outgoing(request)
    parts: list[object] = []
    parts.extend(outgoing.parts(lambda: parts.append("the last is next")))
    assert parts[-2] == "the last is next"
    assert parts.count("the last is next") == 1
    assert sum(len(part.chunk) for part in parts if isinstance(part, pb.WriteValueRequest)) == 1_000_000
