"""h2load, a load generator that is not Python: https://nghttp2.org/documentation/h2load-howto.html."""

import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from ..floors import MissingPeerError

CLIENTS = 4
STREAMS = 16
TIMEOUT_SECONDS = 120.0


def program() -> str:
    """Returns its path. Raises MissingPeerError if it is not installed."""
    found = shutil.which("h2load")
    if found is None:
        raise MissingPeerError("h2load is not installed: on Debian, apt install nghttp2-client")
    return found


def rate(address: str, method: str, request: bytes, answer_bytes: int, calls: int) -> float:
    """Returns the calls a second of a unary gRPC method, 64 under way on 4 connections.

    Raises AssertionError unless each call was answered with a message of so many bytes: a gRPC call that
    fails is an HTTP 200 without one.
    """
    with tempfile.TemporaryDirectory(prefix="neardict-h2load-") as folder:
        frame = Path(folder, "frame")
        frame.write_bytes(struct.pack(">BI", 0, len(request)) + request)
        done = subprocess.run(
            [
                *(program(), "-n", str(calls), "-c", str(CLIENTS), "-m", str(STREAMS), "-t", "1"),
                *("-H", "content-type: application/grpc", "-H", "te: trailers", "-d", str(frame)),
                f"http://{address}{method}",
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
    succeeded = re.search(r"(\d+) done, (\d+) succeeded", done.stdout)
    data = re.search(r"\((\d+)\) data", done.stdout)
    finished = re.search(r"finished in \S+, ([\d.]+) req/s", done.stdout)
    if succeeded is None or data is None or finished is None:
        raise AssertionError(f"h2load says something else than before:\n{done.stdout}")
    if int(succeeded[2]) != calls or int(data[1]) != calls * (5 + answer_bytes):
        raise AssertionError(f"not every call of {method} was answered:\n{done.stdout}")
    return float(finished[1])
