"""A real etcd, and as much of its client as two calls need.

None of the Python clients of etcd is kept up. Its contract is public and stable (etcdserverpb.KV in
https://github.com/etcd-io/etcd/blob/v3.4.23/etcdserver/etcdserverpb/rpc.proto), and of PutRequest and
RangeRequest only fields of bytes are needed, so they are written by hand: less work for Python than protobuf.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from ..backends import free_port
from ..floors import MissingPeerError
from ..operations import TEXT, key

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_VALUE = TEXT.encode()
_PUT, _RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"


@contextmanager
def running() -> Iterator[str]:
    """Runs etcd with its data in the folder for temporary files; gives its address.

    Raises MissingPeerError if it is not installed, RuntimeError if it does not start.
    """
    program = shutil.which("etcd")
    if program is None:
        raise MissingPeerError("etcd is not installed: on Debian, apt install etcd-server")
    address = f"127.0.0.1:{free_port()}"
    client, peer = f"http://{address}", f"http://127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory(prefix="neardict-etcd-") as folder,
        Path(folder, "log").open("wb") as log,
        subprocess.Popen(
            [
                *(program, "--data-dir", str(Path(folder, "data"))),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"default={peer}", "--log-level", "error"),
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            try:
                _wait_until_ready(address)
            except grpc.RpcError:
                text = Path(folder, "log").read_text(errors="replace")
                raise RuntimeError(f"etcd did not start:\n{text}") from None
            yield address
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class AsyncEtcd:
    """etcd through grpc.aio."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._put: Any = self._channel.unary_unary(_PUT)
        self._range: Any = self._channel.unary_unary(_RANGE)

    def get(self, number: int) -> Awaitable[bytes]:
        answer: Awaitable[bytes] = self._range(_field(1, key(number).encode()))
        return answer

    def set(self, number: int) -> Awaitable[bytes]:
        answer: Awaitable[bytes] = self._put(_field(1, key(number).encode()) + _field(2, _VALUE))
        return answer

    async def check(self) -> None:
        """Raises AssertionError unless what is put is there."""
        await self.set(0)
        if _VALUE not in await self.get(0):
            raise AssertionError("etcd does not return what was put")

    async def close(self) -> None:
        await self._channel.close()


def _wait_until_ready(address: str) -> None:
    """Returns once etcd answers a call, which it does when it has a leader. Raises grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(_RANGE)
        method(_field(1, b"k"), timeout=START_SECONDS, wait_for_ready=True)


def _field(number: int, data: bytes) -> bytes:
    """Returns a field of bytes as protobuf encodes it: tag, length as varint, content."""
    length, rest = b"", len(data)
    while rest >= 0x80:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + data
