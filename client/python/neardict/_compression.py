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


def plain(message: pb.Value) -> pb.Value:
    """Returns a value that came compressed as it was before that. Raises UndecodableValueError."""
    try:
        if message.WhichOneof("kind") == "raw_zstd":
            return pb.Value(raw=_zstd().decompress(message.raw_zstd))
        return pb.Value(json=_zstd().decompress(message.json_zstd).decode())
    except (_zstd().ZstdError, ValueError) as error:
        problem = type(error).__name__
        raise UndecodableValueError(f"a compressed value came damaged ({problem})") from None


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
