"""A TCP proxy that can be a bad network: slow, silent, or cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

Direction = Literal["up", "down"]
HOST = "127.0.0.1"


class _Connection:
    """Two pumps, one for each direction, each with a gate that may be shut."""

    def __init__(self, proxy: Proxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self.writers = [writer]
        self.gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self.gates.values():
            gate.set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        host, port = self._proxy.upstream.rsplit(":", 1)
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            self.writers.append(up_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, "up"))
                group.create_task(self._pump(up_reader, self.writers[0], "down"))
        except* OSError:
            pass
        finally:
            self.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while data := await reader.read(65536):
            # What arrives meanwhile waits in the kernel, and goes on together: nothing is overtaken.
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            await self.gates[direction].wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side is gone, so the other shall be

    def abort(self) -> None:
        """Ends both sides with a reset, as a host does that has rebooted."""
        for gate in self.gates.values():
            gate.set()
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Forwards what comes to `address` to `upstream`, HOST:PORT, which may change; runs in its own thread.

    The connections that are there can be made silent or cut, alone or all; new ones are of no concern to
    that, unless `refusing`.
    """

    def __init__(self, upstream: str, *hosts: str) -> None:
        """`hosts` are where it may listen, at the first of them to begin with."""
        self.upstream = upstream
        self._hosts = hosts or (HOST,)
        self.address = ""
        # Seconds by which each piece of data is late, in either direction.
        self.delay = 0.0
        # New connections are reset at once.
        self.refusing = False
        self._silent: list[Direction] = []
        self._connections: list[_Connection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def silence(self, *directions: Direction, only: int | None = None) -> None:
        """Forwards nothing more that way, or in both, on all connections, those to come included.

        `only` is the place of the one that it shall be alone, in the order in which they were opened.
        """

        def act() -> None:
            connections = self._connections
            if only is not None:
                connections = connections[only : only + 1]
            else:
                self._silent = list(directions or ("up", "down"))
            for connection in connections:
                for direction in directions or ("up", "down"):
                    connection.gates[direction].clear()

        self._do(act)

    def cut(self) -> None:
        """Resets all connections."""

        def act() -> None:
            for connection in self._connections:
                connection.abort()

        self._do(act)

    def heal(self) -> None:
        """Undoes all: what was held back arrives now."""

        def act() -> None:
            self.delay = 0.0
            self.refusing = False
            self._silent.clear()
            for connection in self._connections:
                for gate in connection.gates.values():
                    gate.set()

        self._do(act)

    def move(self, host: str) -> None:
        """Listens there, at the same port, and where it was no more; all connections are reset."""
        self.address = f"{host}:{self._port}"
        self.cut()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def _listen(self) -> None:
        sockets = _listeners(self._hosts)
        self._port = sockets[0].getsockname()[1]
        self.address = f"{self._hosts[0]}:{self._port}"
        self._servers = [
            await asyncio.start_server(self._accept, sock=listener, backlog=1024) for listener in sockets
        ]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        host, port = writer.get_extra_info("sockname")
        if self.refusing or self.address != f"{host}:{port}":
            connection.abort()
            return
        for direction in self._silent:
            connection.gates[direction].clear()
        self._connections.append(connection)
        try:
            await connection.run(reader)
        finally:
            self._connections.remove(connection)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, act: Callable[[], object]) -> None:
        async def done() -> None:
            act()

        self._run(done())

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


def _listeners(hosts: Sequence[str]) -> list[socket.socket]:
    """Returns a socket on each of the hosts, all at one port."""
    while True:
        sockets = [socket.create_server((hosts[0], 0))]
        try:
            port = sockets[0].getsockname()[1]
            sockets += [socket.create_server((host, port)) for host in hosts[1:]]
        except OSError:  # somebody has that port of a later host
            for listener in sockets:
                listener.close()
        else:
            return sockets
