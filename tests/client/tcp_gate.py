"""A TCP relay in front of a server, which can cut connections at a moment that the test chooses."""

import contextlib
import socket
import struct
import threading
from typing import Self

# Closing sends a reset, as when a machine or a process between has died.
_RESET = struct.pack("ii", 1, 0)


class TcpGate:
    """Relays connections to `target`, HOST:PORT. `attempts` counts those that came while it was closed."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = True
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.attempts = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._open = False
        self._passing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(20)

    def close(self) -> None:
        """Cuts every connection, and each new one at once, until `open`."""
        self._open = False
        self.cut()

    def open(self) -> None:
        self._open = True

    def hold_replies(self) -> None:
        """Keeps what the server sends from the client, until `release_replies` or `cut`."""
        self._passing.clear()

    def release_replies(self) -> None:
        self._passing.set()

    def cut(self) -> None:
        """Resets all connections; what is held back is lost."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RD)
            connection.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]  # any function
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                self.attempts += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server = socket.create_connection(self._target)
            for end in (client, server):
                # Or a call takes the 40 ms of a delayed acknowledgement, on a machine that is quick enough.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections += [client, server]
            self._start(self._relay, client, server, False)
            self._start(self._relay, server, client, True)

    def _relay(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if replies:
                    self._passing.wait()
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
