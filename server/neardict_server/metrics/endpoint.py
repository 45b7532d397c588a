"""Serves the figures over HTTP, from threads of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import disable_created_metrics, make_wsgi_app

from ..startup import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client.registry import Collector

# One who asks for nothing, or reads nothing, is not waited for longer; and so many are served at once.
# prometheus_client's own server waits for ever, with a thread for each, until there are no files left.
PATIENCE_SECONDS = 5.0
MOST_CONNECTIONS = 8


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Logs no request."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves the connection in a thread, or closes it if there is no room for long."""
        if self._room.acquire(timeout=PATIENCE_SECONDS / 10):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Takes no notice: the connection broke, or was too slow."""


class _ServerOfIpv6(_Server):
    address_family = socket.AF_INET6


@asynccontextmanager
async def exposing(listen: str, figures: Collector) -> AsyncIterator[str]:
    """Serves the figures at HOST:PORT while the context lasts; yields the URL with the real port.

    Raises StartError if the address is taken, or not this machine's.
    """
    # Of each counter, when it was made: as many lines again, of no use to anybody.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # as its authors left it
    host, _, port = listen.rpartition(":")
    kind = _ServerOfIpv6 if host.startswith("[") else _Server
    try:
        server = make_server(host.strip("[]"), int(port), make_wsgi_app(figures), kind, _Handler)
    except OSError as error:
        raise StartError(
            f"metrics_listen: cannot listen on {listen} ({error.strerror}): choose another HOST:PORT"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        # It may take half a second to notice.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
