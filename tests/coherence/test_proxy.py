"""A proxy that has moved is at another address, with the same port, and not where it was."""

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from coherence.proxy import Proxy

HOSTS = "127.0.0.1", "127.0.0.2"


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data)


@pytest.fixture
def upstream() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def answers(connection: socket.socket) -> bool:
    """Returns whether what is sent comes back, and not a reset."""
    connection.settimeout(20)
    try:
        connection.sendall(b"?")
        return connection.recv(1) == b"?"
    except ConnectionError:
        return False


def connect(host: str, proxy: Proxy) -> socket.socket:
    return socket.create_connection((host, int(proxy.address.rpartition(":")[2])))


def test_it_forwards_where_it_is_and_moves_with_its_port(upstream: str) -> None:
    with Proxy(upstream, *HOSTS) as proxy:
        for here, there in (HOSTS, HOSTS[::-1]):
            assert proxy.address.startswith(f"{here}:")
            with connect(here, proxy) as old, connect(there, proxy) as early:
                assert answers(old)
                assert not answers(early)
                proxy.move(there)
                assert not answers(old)
            with connect(there, proxy) as new, connect(here, proxy) as late:
                assert answers(new)
                assert not answers(late)
