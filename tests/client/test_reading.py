"""The thread that reads the stream of changes, and the connections it opens."""

import subprocess
import sys

# In a process of its own, which gRPC takes with it if the connection can be closed too early.
CLOSED_MEANWHILE = """
import grpc
from neardict import _channel, _reading
from neardict.v1 import storage_pb2_grpc

line = _reading.Line(_channel.Settings("127.0.0.1:1"))


class Stub(storage_pb2_grpc.StorageServiceStub):
    def __init__(self, channel):
        line.close()
        super().__init__(channel)


storage_pb2_grpc.StorageServiceStub = Stub
call = line.open(iter(()))
line.close()
assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
line.close()
"""


def test_a_line_may_be_closed_while_it_opens_a_stream() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED_MEANWHILE], timeout=60, check=False)
    assert done.returncode == 0
