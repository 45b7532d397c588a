"""A TCP relay that is as slow as a network: so many bits a second each way, and a delay.

`python -m bench.throttle UPSTREAM BITS_PER_SECOND ONE_WAY_SECONDS` prints the address where it listens.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time

_PIECE = 16 * 1024


class _Direction:
    """What a link can still carry, shared by all connections."""

    def __init__(self, bytes_per_second: float, delay: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._delay = delay
        self._lock = threading.Lock()
        self._free = 0.0

    def due(self, size: int) -> float:
        """Returns when so many bytes, sent now, have arrived."""
        with self._lock:
            self._free = max(self._free, time.perf_counter()) + size / self._bytes_per_second
            return self._free + self._delay


def _pump(source: socket.socket, sink: socket.socket, direction: _Direction) -> None:
    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=64)

    def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, piece = pieces.get()
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                time.sleep(max(0.0, due - time.perf_counter()))
                sink.sendall(piece)

    threading.Thread(target=deliver, daemon=True).start()
    piece = b"."
    while piece:
        try:
            piece = source.recv(_PIECE)
        except OSError:
            piece = b""
        pieces.put((direction.due(len(piece)), piece))


def main() -> None:
    upstream, bits, delay = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    host, _, port = upstream.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    up, down = (_Direction(bits / 8, delay) for _ in range(2))
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((host, int(port)))
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pump, args=(client, server, up), daemon=True).start()
        threading.Thread(target=_pump, args=(server, client, down), daemon=True).start()


if __name__ == "__main__":
    main()
