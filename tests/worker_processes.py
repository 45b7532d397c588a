"""Looks at the processes of a server with several workers, and at who of them serves which connection."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from redis_server import RedisServer
from served import Served
from waiting import DEADLINE_SECONDS as DEADLINE_SECONDS

POLL_SECONDS = 0.01
# So many connections in a row that all miss one of three workers are no accident: (2/3)**100 is 1e-18.
CONNECTIONS = 100
_ESTABLISHED = "01"
_LISTENING = "0A"


def write_shared(folder: Path, redis: RedisServer, more: str = "") -> Path:
    """Writes a configuration with every domain in the Redis, and what else is kept in the folder."""
    path = folder / "neardict.toml"
    path.write_text(
        f'data_dir = "{folder / "data"}"\n'
        f'[backends.shared]\nimplementation = "redis"\nsettings = {{ port = {redis.port}{more} }}\n'
    )
    return path


def workers_of(server: Served) -> set[int]:
    """Returns the ids of the processes that serve."""
    return {pid for pid in _children(server.process.pid) if _listens(pid, server)}


def until_there_are(number: int, server: Served, *, without: int = 0) -> set[int]:
    """Waits for so many workers, not counting one process; returns them."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(found := workers_of(server) - {without}) < number:
        assert time.monotonic() < deadline, found
        time.sleep(POLL_SECONDS)
    return found


def until_gone(pids: set[int]) -> None:
    """Waits until none of the processes is left."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(POLL_SECONDS)


def connections(pid: int, server: Served) -> set[str]:
    """Returns the remote ends of the connections to the server that this worker has."""
    own = _sockets(pid)
    return {remote for remote, inode in _tcp(server, _ESTABLISHED) if inode in own}


@contextlib.contextmanager
def channel_of_each(server: Served) -> Iterator[dict[int, grpc.Channel]]:
    """Yields a channel to each worker, by its process id."""
    workers = workers_of(server)
    found: dict[int, grpc.Channel] = {}
    with contextlib.ExitStack() as opened:
        for _ in range(CONNECTIONS):
            before = {pid: connections(pid, server) for pid in workers}
            channel = opened.enter_context(own_connection(server))
            grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
            found.setdefault(_until_connected(before, server), channel)
            if len(found) == len(workers):
                yield found
                return
    raise AssertionError(f"{CONNECTIONS} connections reach {found.keys()} of {workers} only")


def own_connection(server: Served) -> Any:
    """Returns a channel with a connection that it shares with no other."""
    return grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


def _until_connected(before: dict[int, set[str]], server: Served) -> int:
    """Returns the worker that has a connection more: the kernel has made it before its worker takes it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := [pid for pid in before if connections(pid, server) - before[pid]]):
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)
    [pid] = found
    return pid


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # One that ended meanwhile has none.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= set(map(int, (thread / "children").read_text().split()))
    return found


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _listens(pid: int, server: Served) -> bool:
    own = _sockets(pid)
    return any(inode in own for _, inode in _tcp(server, _LISTENING))


def _sockets(pid: int) -> set[str]:
    """Returns the inodes of the sockets that the process has open."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def _tcp(server: Served, state: str) -> list[tuple[str, str]]:
    """Returns the remote end and the inode of the sockets at the server's port that are in this state."""
    port = f":{int(server.address.rpartition(':')[2]):04X}"
    # gRPC has IPv6 sockets for IPv4 too.
    texts = [Path(f"/proc/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for text in texts for line in text.splitlines()[1:]]
    return [(row[2], row[9]) for row in rows if row[1].endswith(port) and row[3] == state]
