"""A store tells when it loses the service, and when that is there again: to the log, and to callbacks."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import neardict
from neardict._connectivity import Connectivity
from redis_server import free_port
from served import Served

from .either import KINDS, Either
from .tcp_gate import TcpGate
from .threads import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOGGER = "neardict._connectivity"
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@contextmanager
def frozen(server: Served) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@kinds
@pytest.mark.parametrize("consistency", ["bounded", "linearizable"])
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_the_service_is_lost_and_found_again(
    kind: str, consistency: str, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    place = ("--data", tmp_path, "--listen", f"127.0.0.1:{free_port()}")
    with Served(*place) as first, Either(kind, first.address, timeout=60) as client:
        cache = client(lambda store: store.dict("players", consistency=consistency))
        client.set(cache, "k", 1)
        client(lambda store: store.on_connection(told.append))
        until(lambda: told == [True])
        if fault == "killed":
            first.kill()
            until(lambda: told == [True, False])
            with Served(*place):
                until(lambda: told == [True, False, True])
                until(lambda: client(lambda _: cache.fresh))
                client(lambda store: store.close())
        else:
            with frozen(first):
                until(lambda: told == [True, False])
            until(lambda: told == [True, False, True])
            client(lambda store: store.close())
    # That a store is closed is no loss.
    assert told == [True, False, True]
    lost, back = logged(caplog)
    assert lost == f"lost neardict at {first.address}; domains: 'players'"
    assert back.startswith(f"neardict at {first.address} is back after ")
    assert back.endswith(" s; domains: 'players'")


@kinds
def test_a_service_that_was_never_there_is_told_of_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[bool] = []
    with Either(kind, f"127.0.0.1:{free_port()}", timeout=1) as client:
        client(lambda store: store.on_connection(told.append))
        session = client.store.changes.session
        until(lambda: session.failures > 2)
        assert told == [False]
        assert logged(caplog) == [f"cannot reach neardict at {client.store.target}"]


@kinds
def test_who_comes_later_is_told_how_it_is(kind: str, server: Served, domain: str) -> None:
    with Either(kind, server.address) as client:
        cache = client(lambda store: store.dict(domain))
        until(lambda: client(lambda _: cache.fresh))
        told: list[bool] = []
        client(lambda store: store.on_connection(told.append))
        until(lambda: told == [True])


@kinds
def test_callbacks_end_when_they_are_cancelled_and_not_when_they_raise(
    kind: str, server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, bool]] = []

    def fail(connected: bool) -> None:
        told.append(("fails", connected))
        raise ValueError("secret")

    with TcpGate(server.address) as gate, Either(kind, gate.address, timeout=60) as client:
        client(lambda store: store.on_connection(fail))
        with client(lambda store: store.on_connection(lambda up: told.append(("cancelled", up)))):
            until(lambda: len(told) == 2)
        gate.close()
        until(lambda: ("fails", False) in told)
        gate.open()
        until(lambda: told.count(("fails", True)) == 2)
    assert told.count(("cancelled", True)) == 1
    assert ("cancelled", False) not in told
    assert "a callback of on_connection raised ValueError at" in caplog.text
    assert "secret" not in caplog.text


@kinds
def test_a_store_that_does_not_watch_cannot_tell(kind: str, server: Served) -> None:
    with (
        Either(kind, server.address, watch=False) as client,
        pytest.raises(neardict.CapabilityMissingError, match="watch=True"),
    ):
        client(lambda store: store.on_connection(print))


@kinds
def test_a_fork_is_no_loss(kind: str, server: Served, domain: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[bool] = []
    with Either(kind, server.address, timeout=60) as client:
        cache = client(lambda store: store.dict(domain))
        client(lambda store: store.on_connection(told.append))
        until(lambda: told == [True])
        failures = client.store.changes.session.failures
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        until(lambda: client.store.changes.session.failures > failures)
        until(lambda: client(lambda _: cache.fresh))
        assert told == [True]
    assert logged(caplog) == []


class Later:
    """Does what is scheduled when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.work.append(work)

    def run(self) -> None:
        work, self.work = self.work, []
        for one in work:
            one()


def test_a_callback_that_cannot_keep_up_is_told_the_last(caplog: pytest.LogCaptureFixture) -> None:
    later, told = Later(), list[bool]()
    connectivity = Connectivity("here", list, lambda: 0.0, later)
    connectivity.observe(told.append)
    for connected in (True, False, True, True, False):
        connectivity.notice(connected)
    later.run()
    assert told == [False]
    for connected in (True, False):
        connectivity.notice(connected)
    later.run()
    assert told == [False]
    assert len(logged(caplog)) == 5


def test_few_of_many_domains_are_named(caplog: pytest.LogCaptureFixture) -> None:
    connectivity = Connectivity("here", lambda: [f"d{n}" for n in range(8)], lambda: 0.0, lambda work: work())
    connectivity.notice(False)
    (message,) = logged(caplog)
    assert message == "cannot reach neardict at here; domains: 'd0', 'd1', 'd2', 'd3', 'd4' and 3 more"


def test_it_is_logged_under_no_lock(monkeypatch: pytest.MonkeyPatch, server: Served) -> None:
    """A handler of logging may wait for whatever it is, such as a thread that uses the store."""
    held: list[bool] = []

    class Looks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            def look(store: Any = store) -> None:
                free = store.changes.session._lock.acquire(timeout=5)
                held.append(not free)
                if free:
                    store.changes.session._lock.release()

            looking = threading.Thread(target=look)
            looking.start()
            looking.join()

    handler = Looks()
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        with TcpGate(server.address) as gate, neardict.connect(gate.address) as store:
            store.dict("d")
            gate.close()
            until(lambda: held)
            assert held == [False]
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)


def test_a_lack_of_threads_loses_no_news(monkeypatch: pytest.MonkeyPatch, server: Served) -> None:
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")] * 2

    def sometimes(thread: threading.Thread) -> None:
        if thread.name == "neardict callbacks" and failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sometimes)
    told: list[bool] = []
    with TcpGate(server.address) as gate, neardict.connect(gate.address) as store:
        store.on_connection(told.append)
        until(lambda: store.changes.session is not None and store.changes.session.was_answered())
        gate.close()
        until(lambda: not failures)
        gate.open()
        until(lambda: told and told[-1])
