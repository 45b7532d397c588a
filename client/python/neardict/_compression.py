"""Values that are smaller on the wire than in memory: zstd, where a store was told to use it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from .errors import InvalidArgumentError, UndecodableValueError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from types import ModuleType

# How values travel: compressed where that pays on a slow network, or as they are.
Compression = Literal["zstd"] | None

# Below, it saves less time than it takes, even on a network of 100 Mbit/s: docs/performance.md.
LEAST_BYTES = 16 * 1024
# The quickest of the ordinary levels. The next ones make JSON smaller by a few percent.
_LEVEL = 1
# The kinds of values that are compressed, and what they are when they are not any more.
KINDS = {"json_zstd": "json", "raw_zstd": "raw"}
# A header of a frame has at most so many bytes.
_LONGEST_HEADER = 18
# What the contract allows. Without it a frame of a few bytes may want 2 GiB to be read.
_WINDOW_LOG = 23


def check(compression: Compression) -> bool:
    """Returns whether values are to be compressed. Raises InvalidArgumentError if they cannot."""
    if compression is None:
        return False
    if compression != "zstd":
        raise InvalidArgumentError('compression must be "zstd" or None')
    if _library() is None:
        raise InvalidArgumentError(
            'compression="zstd" needs a library: install neardict[zstd], or use Python 3.14'
        )
    return True


def pays(size: int) -> bool:
    return size >= LEAST_BYTES


def compress(data: bytes) -> bytes | None:
    """Returns the data as one frame, or None if that does not pay."""
    if not pays(len(data)):
        return None
    frame: bytes = _zstd().compress(data, _LEVEL)
    return frame if len(frame) < 0.9 * len(data) else None


def compressed(message: pb.Value) -> pb.Value:
    """Returns the value as it is to be sent to a service that understands it."""
    if message.WhichOneof("kind") == "raw":
        frame = compress(message.raw)
        return message if frame is None else pb.Value(raw_zstd=frame)
    # A look at the characters saves encoding what is too small.
    frame = compress(message.json.encode()) if pays(4 * len(message.json)) else None
    return message if frame is None else pb.Value(json_zstd=frame)


def content_size(frame: bytes | bytearray) -> int | None:
    """Returns how many bytes the frame says that its content has, None if it does not, or is none."""
    try:
        size: int | None = _zstd().get_frame_info(bytes(frame[:_LONGEST_HEADER])).decompressed_size
    except _zstd().ZstdError:
        return None
    return size


def plain(message: pb.Value) -> pb.Value:
    """Returns a value that came compressed as it was before that. Raises UndecodableValueError.

    It takes no more memory than the frame says, which whoever let it in has looked at.
    """
    if message.WhichOneof("kind") == "raw_zstd":
        return pb.Value(raw=_decompress(message.raw_zstd))
    try:
        return pb.Value(json=_decompress(message.json_zstd).decode())
    except UnicodeDecodeError:
        raise _damaged("is no UTF-8") from None


def _decompress(frame: bytes) -> bytes:
    library = _zstd()
    size = content_size(frame)
    if size is None:
        raise _damaged("does not state its size")
    decompressor = library.ZstdDecompressor(
        options={int(library.DecompressionParameter.window_log_max): _WINDOW_LOG}
    )
    try:
        # One byte more, to see whether the content is what was stated, and the frame is over with it.
        data: bytes = decompressor.decompress(frame, size + 1)
    except library.ZstdError:
        raise _damaged("is no frame of zstd") from None
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise _damaged("has another size than it states")
    return data


def _damaged(problem: str) -> UndecodableValueError:
    return UndecodableValueError(f"a compressed value came damaged: it {problem}")


def _zstd() -> Any:
    library = _library()
    if library is None:
        raise UndecodableValueError("the value came compressed: install neardict[zstd], or use Python 3.14")
    return library


def _library() -> ModuleType | None:
    # Here, since a client needs it only if it is told so.
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        return None
    return zstd
