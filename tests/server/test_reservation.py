"""A port that several workers are to share is kept for them, and from all others."""

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from neardict_server.workers.reservation import Reservation

LOOPBACK = "127.0.0.1:0"


def listener(address: str, *, shared: bool) -> contextlib.closing[socket.socket]:
    """Returns a socket that listens there, as gRPC would have it."""
    host, _, port = address.rpartition(":")
    opened = socket.socket()
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(opened.close)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        opened.bind((host, int(port)))
        opened.listen()
        on_failure.pop_all()
    return contextlib.closing(opened)


@pytest.fixture
def reservation() -> Iterator[Reservation]:
    with Reservation(LOOPBACK) as reservation:
        yield reservation


def test_port_0_becomes_a_free_one_that_workers_share(reservation: Reservation) -> None:
    host, _, port = reservation.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    with listener(reservation.address, shared=True) as one, listener(reservation.address, shared=True) as two:
        assert one.getsockname() == two.getsockname()


def test_connections_reach_workers_alone(reservation: Reservation) -> None:
    host, _, port = reservation.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    with listener(reservation.address, shared=True) as worker:
        worker.settimeout(10)
        for _ in range(20):
            with socket.create_connection((host, int(port))), worker.accept()[0]:
                pass


@pytest.mark.parametrize("workers", [0, 1])
def test_no_other_server_gets_it_also_while_no_worker_is_up(reservation: Reservation, workers: int) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(workers):
            opened.enter_context(listener(reservation.address, shared=True))
        with pytest.raises(OSError, match="in use"):
            listener(reservation.address, shared=False)
        with pytest.raises(OSError, match="in use"):
            Reservation(reservation.address)
    reservation.close()
    with listener(reservation.address, shared=False):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_another_program_serves_is_taken_whatever_that_allows(shared: bool) -> None:
    with listener(LOOPBACK, shared=shared) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            Reservation(address)
    with Reservation(address) as reservation:
        assert reservation.address == address


def test_connections_that_ended_a_moment_ago_do_not_count(reservation: Reservation) -> None:
    host, _, port = reservation.address.rpartition(":")
    with listener(reservation.address, shared=True) as worker:
        client = socket.create_connection((host, int(port)))
        # The side that closes first keeps the connection in TIME_WAIT.
        worker.accept()[0].close()
        client.close()
    reservation.close()
    with Reservation(reservation.address) as again, listener(again.address, shared=True):
        pass


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "[::1]"])
def test_every_address_of_the_host_has_the_same_port(host: str) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with Reservation(f"{host}:0") as reservation:
        port = int(reservation.address.removeprefix(f"{host}:"))
        with pytest.raises(OSError, match="in use"):
            Reservation(f"{host}:{port}")
        if host != "[::1]":
            with pytest.raises(OSError, match="in use"):
                Reservation(f"127.0.0.1:{port}")


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
        return True


def test_an_address_of_another_machine_is_an_error() -> None:
    # For documentation only: RFC 5737.
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is checked
        Reservation("192.0.2.1:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_what_was_reserved_before_a_failure_is_given_up() -> None:
    with listener(LOOPBACK, shared=False) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for _ in range(3):
            with pytest.raises(OSError, match="in use"):
                Reservation(address)
    with listener(address, shared=False):
        pass
