"""What a source of an import holds, one piece at a time."""

from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from ...v1 import storage_pb2 as pb


class Found(NamedTuple):
    """An entry to import. `origin` is its file or line, `conversion` is empty if nothing was converted."""

    origin: str
    domain: str
    key: str
    value: pb.Value
    conversion: str = ""
    expire_time: Timestamp | None = None


class Refused(NamedTuple):
    """Something that looks like an entry and cannot be one; `reason` says what to do about it."""

    origin: str
    reason: str


class Ignored(NamedTuple):
    """Something that is not meant to be imported."""

    origin: str
    reason: str


Piece = Found | Refused | Ignored
