"""Values that are smaller on the wire than in the store: zstd, for clients that ask for it.

Up to `_INLINE_BYTES` the event loop does it, in less than a millisecond, as it checks JSON of that size;
beyond, a thread, in which zstd lets others run.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from neardict.v1 import storage_pb2

from .errors import InvalidRequestError, ValueNeedsChunksError
from .limits import check_message_size, size_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from .backends import base
    from .limits import Limits

ZSTD = storage_pb2.COMPRESSION_ZSTD
KINDS = {"json_zstd": "json", "raw_zstd": "raw"}

# Below, it saves less time than it takes, even on a network of 100 Mbit/s: docs/performance.md.
LEAST_BYTES = 16 * 1024
# The quickest of the ordinary levels. The next ones make JSON smaller by a few percent.
_LEVEL = 1
# What RFC 8878 recommends for every reader to support. Without it a frame of a few bytes may want 2 GiB.
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 23}
_INLINE_BYTES = 128 * 1024
_LONGEST_HEADER = 18


async def compress(data: bytes) -> bytes | None:
    """Returns the data as one frame, or None if that does not pay."""
    if len(data) < LEAST_BYTES:
        return None
    frame = await _aside(len(data), _compress, data)
    return frame if len(frame) < 0.9 * len(data) else None


async def value(message: storage_pb2.Value, accept: int) -> storage_pb2.Value:
    """Returns the value as it is to be sent to one who accepts that."""
    if accept != ZSTD:
        return message
    if message.WhichOneof("kind") == "json":
        # A look at the characters saves encoding what is too small.
        frame = await compress(message.json.encode()) if 4 * len(message.json) >= LEAST_BYTES else None
        return message if frame is None else storage_pb2.Value(json_zstd=frame)
    frame = await compress(message.raw)
    return message if frame is None else storage_pb2.Value(raw_zstd=frame)


def check_plain(content: base.Value) -> None:
    """Refuses to send a value as it is to one who would have it compressed."""
    if len(content) >= LEAST_BYTES:
        raise ValueNeedsChunksError(size_of(content), LEAST_BYTES)


async def plain(message: storage_pb2.Value, limits: Limits) -> storage_pb2.Value:
    """Returns the value that came in a message, compressed or not, as it was before that.

    Refuses one that is too large before it takes more memory than a value of a message may have.
    """
    kind = message.WhichOneof("kind")
    if kind not in KINDS:
        return message
    frame = getattr(message, kind)
    size = _content_size(frame)
    check_message_size(size, limits)
    data = await decompress(frame, size)
    return storage_pb2.Value(raw=data) if kind == "raw_zstd" else storage_pb2.Value(json=text(data))


async def decompress(frame: bytes | bytearray, size: int) -> bytes:
    """Returns the content of the frame. Refuses one of any other size than this."""
    if _content_size(frame) != size:
        raise _refused(f"says another size of its content than {size}")
    return await _aside(size, _decompress, frame, size)


def text(data: bytes | bytearray) -> str:
    """Returns JSON text that came as bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"the value is not UTF-8, which JSON text is, at byte {error.start}",
            reason="INVALID_VALUE",
            field="value",
        ) from None


def _content_size(frame: bytes | bytearray) -> int:
    try:
        size = zstd.get_frame_info(bytes(frame[:_LONGEST_HEADER])).decompressed_size
    except zstd.ZstdError:
        raise _refused("has no header") from None
    if size is None:
        raise _refused("does not state the size of its content")
    return size


def _compress(data: bytes) -> bytes:
    return zstd.compress(data, _LEVEL)


def _decompress(frame: bytes | bytearray, size: int) -> bytes:
    decompressor = zstd.ZstdDecompressor(options=_WINDOW)
    try:
        data = decompressor.decompress(frame, size + 1)
    except zstd.ZstdError:
        raise _refused("is damaged, or needs a window of more than 8 MiB") from None
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise _refused("ends before its end, or more follows it")
    return data


def _refused(problem: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the compressed value {problem}: it must be one frame of zstd (RFC 8878), or send it as it is",
        reason="INVALID_VALUE",
        field="value",
    )


async def _aside(size: int, function: Callable[..., bytes], *args: Any) -> bytes:
    return function(*args) if size <= _INLINE_BYTES else await asyncio.to_thread(function, *args)
