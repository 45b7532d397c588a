"""Clients that subscribe and never read, in a process of their own.

python -m coherence.watchers HOST:PORT DOMAIN COUNT
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from coherence.engines import DOMAIN
from coherence.running import environment
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def watchers(address: str, count: int, domain: str = DOMAIN) -> Iterator[None]:
    """So many watch the domain, each on a connection of its own, until they are killed."""
    command = [sys.executable, "-m", "coherence.watchers", address, domain, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"watching\n"
            yield
        finally:
            process.kill()


async def _watch(address: str, domain: str, count: int) -> None:
    async with contextlib.AsyncExitStack() as channels:
        calls = []
        for _ in range(count):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await channels.enter_async_context(grpc.aio.insecure_channel(address, options))
            stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
            call = stub.Watch()
            await call.write(pb.WatchRequest(subscribe=pb.Subscribe(domain=domain)))
            await call.read()
            calls.append(call)
        print("watching", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_watch(sys.argv[1], sys.argv[2], int(sys.argv[3])))
