"""Serves the figures over HTTP, from a thread of its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client import disable_created_metrics, start_http_server

from ..startup import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client.registry import Collector


@asynccontextmanager
async def exposing(listen: str, figures: Collector) -> AsyncIterator[str]:
    """Serves the figures at HOST:PORT while the context lasts; yields the URL with the real port.

    Raises StartError if the address is taken, or not this machine's.
    """
    host, _, port = listen.rpartition(":")
    # Of each counter, when it was made: as many lines again, of no use to anybody.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # as its authors left it
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), figures)
    except OSError as error:
        raise StartError(
            f"metrics_listen: cannot listen on {listen} ({error.strerror}): choose another HOST:PORT"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        # It may take half a second to notice.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
