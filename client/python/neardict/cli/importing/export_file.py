"""A file that `neardict export` wrote, or several of them one after the other, as a source of entries."""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp

from ...v1 import storage_pb2 as pb
from .. import json_text
from ..export import FORMAT_VERSION
from .found import Found, Piece, Refused

# What one line may hold: each byte of a value as an escape, and what stands around it.
_GROWTH = 8
_AROUND = 64 * 1024


class NoExportError(ValueError):
    """The file is none of `neardict export`, or one of a later version."""


class ExportFile:
    """Reads one line at a time."""

    def __init__(self, file: BinaryIO, *, path: Path | None, domain: str, max_value_bytes: int) -> None:
        """`domain`, if not empty, takes the place of the file's own. `path` is None for a pipe."""
        self._file = file
        self._path = path
        self._domain = domain
        self._max_bytes = _GROWTH * max_value_bytes + _AROUND

    def count(self) -> int | None:
        """Returns about how many pieces there are, None if it cannot be known."""
        if self._path is None:
            return None
        with self._path.open("rb") as file:
            return sum(1 for _ in iter(lambda: file.readline(self._max_bytes), b""))

    def pieces(self) -> Iterator[Piece]:
        """Yields what there is, once. Raises NoExportError, and OSError."""
        domain: str | None = None
        whole = False
        for number, line in self._lines():
            origin = f"line {number}"
            try:
                if line is None:
                    raise json_text.NotJsonError("is too long for any value that the service takes")
                text = line.decode()
                members = json_text.parse(text)
                if isinstance(members, dict) and "neardict_export" in members:
                    if domain is not None and not whole:
                        yield _CUT_OFF
                    domain, whole = self._domain or _domain_of(members), False
                elif domain is None:
                    raise NoExportError(
                        "it is no export: its first line would be a header with neardict_export"
                    )
                elif isinstance(members, dict) and members.get("end") is True:
                    whole = True
                else:
                    yield _found(origin, domain, members, text)
            except UnicodeDecodeError:
                yield Refused(origin, "is not UTF-8")
            except json_text.NotJsonError as error:
                yield Refused(origin, str(error))
        if domain is None:
            raise NoExportError("it is no export: it is empty, or unreadable from the start")
        if not whole:
            yield _CUT_OFF

    def _lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Yields the lines with their numbers, None for those that are too long."""
        number = 0
        while line := self._file.readline(self._max_bytes):
            number += 1
            if len(line) < self._max_bytes or line.endswith(b"\n"):
                yield number, line
                continue
            while line and not line.endswith(b"\n"):
                line = self._file.readline(self._max_bytes)
            yield number, None


_CUT_OFF = Refused(
    "the end", "is missing: the export was cut off, and whatever followed could not be imported"
)


def _domain_of(header: dict[str, Any]) -> str:
    version, domain = header["neardict_export"], header.get("domain")
    if version != FORMAT_VERSION or not isinstance(domain, str):
        raise NoExportError(f"it is no export of version {FORMAT_VERSION}: use the neardict that wrote it")
    return domain


def _found(origin: str, domain: str, members: Any, text: str) -> Piece:
    key = members.get("key") if isinstance(members, dict) else None
    if not isinstance(key, str):
        return Refused(origin, "has no key")
    if "value" in members:
        value = pb.Value(json=json_text.members(text)["value"])
    else:
        try:
            value = pb.Value(raw=base64.b64decode(members["raw_base64"], validate=True))
        except (KeyError, TypeError, binascii.Error, ValueError):
            return Refused(origin, "has neither value nor raw_base64")
    expire_time = None
    if members.get("expire_time") is not None:
        expire_time = Timestamp()
        try:
            expire_time.FromJsonString(members["expire_time"])
        except (TypeError, ValueError, AttributeError):
            return Refused(origin, "has no time as RFC 3339 writes it in expire_time")
    return Found(origin, domain, key, value, expire_time=expire_time)
