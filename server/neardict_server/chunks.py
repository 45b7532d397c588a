"""Values that do not fit in a message: how they are sent in parts, and how parts become one again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from neardict.v1 import storage_pb2

from . import compression
from .backends import base
from .errors import InvalidRequestError, UploadStalledError
from .limits import check_size, fits, size_of
from .messages import fill_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .limits import Limits

# Large enough that a message's own cost does not count, small enough that what else the connection carries
# does not wait for long.
CHUNK_BYTES = 256 * 1024
# One who uploads holds the room of the whole value, or else two that have half of theirs could wait for each
# other for ever. So he has to go on: at this rate on the whole, but for so many seconds, which are for a line
# that is held up for a moment.
LEAST_RATE = 16 * 1024  # bytes a second
STALL_SECONDS = 10.0
# The headers that tell a client that its chunks will be read.
WELCOME = (("upload", "welcome"),)
_EMPTY_TEXT = storage_pb2.Value(json_zstd=b"")
_EMPTY_BYTES = storage_pb2.Value(raw_zstd=b"")
# What an entry takes in a page beside its key and its value, at most.
_ENTRY_OVERHEAD = 64


async def parts(lookup: base.Lookup, accept: int) -> AsyncIterator[storage_pb2.ReadValueResponse]:
    """Yields the answer of ReadValue to one who accepts that: the head, and the value in chunks."""
    entry, revision = lookup
    if entry is None:
        answer = storage_pb2.GetValueResponse(domain_revision=revision)
        yield storage_pb2.ReadValueResponse(head=storage_pb2.ReadValueHead(answer=answer))
        return
    is_text = isinstance(entry.value, str)
    empty = storage_pb2.Entry()
    fill_entry(entry._replace(value="" if is_text else b""), empty)
    whole = entry.value.encode() if isinstance(entry.value, str) else entry.value
    if accept == compression.ZSTD and (frame := await compression.compress(whole)) is not None:
        whole = frame
        empty.value.CopyFrom(_EMPTY_TEXT if is_text else _EMPTY_BYTES)
    answer = storage_pb2.GetValueResponse(found=True, entry=empty, domain_revision=revision)
    data = memoryview(whole)
    yield storage_pb2.ReadValueResponse(head=storage_pb2.ReadValueHead(answer=answer, size=len(data)))
    for start in range(0, len(data), CHUNK_BYTES):
        yield storage_pb2.ReadValueResponse(chunk=bytes(data[start : start + CHUNK_BYTES]))


def in_messages(page: base.Page, limits: Limits) -> Iterator[tuple[base.Page, list[str]]]:
    """Yields the page in parts that fit in a message, each with keys of entries that fit in none."""
    large_keys: list[str] = []
    batch: list[base.Entry] = []
    size = 0
    for entry in page.entries:
        if not fits(entry.value, limits):
            large_keys.append(entry.key)
            continue
        # Four bytes for each character: no text is longer in UTF-8.
        more = 4 * len(entry.key) + size_of(entry.value) + _ENTRY_OVERHEAD
        if batch and size + more > limits.max_message_value_bytes:
            yield base.Page(page.domain_revision, entries=batch), []
            batch, size = [], 0
        batch.append(entry)
        size += more
    yield page._replace(entries=batch), large_keys


async def head(requests: AsyncIterator[storage_pb2.WriteValueRequest]) -> storage_pb2.WriteValueHead:
    """Returns the head of an upload. Raises InvalidRequestError if it does not begin with one."""
    request = await _next(requests, STALL_SECONDS)
    if request is None or request.WhichOneof("part") != "head":
        raise InvalidRequestError("the first message must have a head, which says what is written")
    value = request.head.request.value
    kind = value.WhichOneof("kind")
    if kind is None or getattr(value, kind):
        raise InvalidRequestError(
            "head.request.value must be empty: it says the kind, and the value comes in chunks",
            reason="INVALID_VALUE",
            field="head.request.value",
        )
    return request.head


async def gather(
    head: storage_pb2.WriteValueHead, requests: AsyncIterator[storage_pb2.WriteValueRequest]
) -> base.Value:
    """Returns the value when all its chunks have come. Raises InvalidRequestError if they do not add up."""
    data = bytearray()
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        due = began + STALL_SECONDS + len(data) / LEAST_RATE
        if (request := await _next(requests, due - now())) is None:
            break
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequestError("after the head each message must have a chunk", field="chunk")
        if len(data) + len(request.chunk) > head.size:
            raise InvalidRequestError(
                f"the chunks are more than head.size, {head.size}: it must be the value's size in bytes",
                field="head.size",
            )
        data += request.chunk
    if len(data) < head.size:
        raise InvalidRequestError(
            f"the chunks ended after {len(data)} of {head.size} bytes: nothing was stored", field="head.size"
        )
    kind = head.request.value.WhichOneof("kind")
    content = await compression.decompress(data, head.content_size) if kind in compression.KINDS else data
    return compression.text(content) if kind in ("json", "json_zstd") else bytes(content)


def room_of(head: storage_pb2.WriteValueHead, limits: Limits) -> int:
    """Returns for how many bytes an upload needs room. Refuses one that is too large."""
    check_size(head.size, limits)
    if head.request.value.WhichOneof("kind") not in compression.KINDS:
        return head.size
    check_size(head.content_size, limits)
    return head.size + head.content_size


async def _next(
    requests: AsyncIterator[storage_pb2.WriteValueRequest], seconds: float
) -> storage_pb2.WriteValueRequest | None:
    try:
        async with asyncio.timeout(seconds):
            return await anext(requests, None)
    except TimeoutError:
        raise UploadStalledError(
            f"no message came for {STALL_SECONDS:g} seconds, or on the whole less than {LEAST_RATE} bytes a "
            "second, and nothing was stored: write it again"
        ) from None
