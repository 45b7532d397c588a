"""A Watch stream with as little client as there can be: HTTP/2 by hand, for this one call.

Hundreds of gRPC's own clients on the machine of the server take as much of it as the server does, so that
the lag would be as much theirs. RFC 9113 has the frames, RFC 7541 the headers, and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md what gRPC makes of them.
"""

import asyncio
import struct
from collections.abc import Callable

from neardict.v1 import storage_pb2 as pb

_PATH = "/neardict.v1.StorageService/Watch"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_HEADERS = 0x1, 0x4
# As much as this is read before the server is told that more may come: half of the window.
_WINDOW_STEP = 2**15
_STREAM = 1


class WatchStream(asyncio.Protocol):
    """One connection with one call of Watch; `received` gets each message. A failure ends in `failed`."""

    def __init__(
        self, received: Callable[[pb.WatchResponse], None], failed: Callable[[Exception], None]
    ) -> None:
        self._received = received
        self._failed = failed
        self._frames = bytearray()
        self._messages = bytearray()
        # Bytes of data since the windows were last updated.
        self._taken = 0

    @classmethod
    async def open(
        cls,
        address: str,
        received: Callable[[pb.WatchResponse], None],
        failed: Callable[[Exception], None],
    ) -> "WatchStream":
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: cls(received, failed), host, int(port))
        return stream

    def send(self, request: pb.WatchRequest) -> None:
        data = request.SerializeToString()
        self._transport.write(_frame(_DATA, 0, _STREAM, struct.pack(">BI", 0, len(data)) + data))

    def close(self) -> None:
        self._transport.close()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, _STREAM, _headers())
        )

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        frames += data
        start = 0
        while len(frames) - start >= 9:
            end = start + 9 + int.from_bytes(frames[start : start + 3])
            if len(frames) < end:
                break
            self._frame_received(frames[start + 3], frames[start + 4], frames[start + 9 : end])
            start = end
        del frames[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(exc or ConnectionError("the server has closed the connection"))

    def _frame_received(self, kind: int, flags: int, payload: bytearray) -> None:
        if kind == _DATA:
            self._taken += len(payload)
            if self._taken >= _WINDOW_STEP:
                step = struct.pack(">I", self._taken)
                for stream in (0, _STREAM):
                    self._transport.write(_frame(_WINDOW_UPDATE, 0, stream, step))
                self._taken = 0
            self._messages += payload
            self._take_messages()
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, bytes(payload) if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            self._failed(ConnectionError("the server has ended the stream"))

    def _take_messages(self) -> None:
        messages = self._messages
        start = 0
        while len(messages) - start >= 5:
            end = start + 5 + int.from_bytes(messages[start + 1 : start + 5])
            if len(messages) < end:
                break
            self._received(pb.WatchResponse.FromString(bytes(messages[start + 5 : end])))
            start = end
        del messages[:start]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _headers() -> bytes:
    """Returns the headers of the call, each as a literal that is not indexed."""
    encoded = b""
    for name, value in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _PATH),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ):
        encoded += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return encoded
