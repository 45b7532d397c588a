"""What the service accepts, checked before a backend is asked."""

import asyncio
import resource
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from . import json_text
from .backends.base import Value
from .errors import InvalidRequestError, ValueNeedsChunksError, ValueTooLargeError
from .room import Room, unnoticed

MAX_DOMAIN_BYTES = 255
MAX_KEY_BYTES = 1024
MAX_REQUEST_ID_BYTES = 64
MAX_TTL = 100 * 365 * 24 * 3600 * 1_000_000  # microseconds
# Room for domain, key and framing around the largest value of a message.
MESSAGE_OVERHEAD = 64 * 1024
DEFAULT_MESSAGE_VALUE_BYTES = 4 * 1024 * 1024 - MESSAGE_OVERHEAD
# To look at more JSON than this would keep the event loop from others.
ASIDE_BYTES = 64 * 1024
MOST_CONNECTIONS = 10_000
# What backends, their databases and the metrics open, at least.
KEPT_FILES = 128


class Limits(BaseModel):
    """The limits that an operator may change."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Beyond the upper bound not every engine stores a value: Redis ends at 512 MiB.
    max_value_bytes: int = Field(default=1024 * 1024, ge=1, le=256 * 1024 * 1024)
    # Larger values travel in chunks. With MESSAGE_OVERHEAD this is what gRPC clients of any language receive
    # by default, 4 MiB.
    max_message_value_bytes: int = Field(
        default=DEFAULT_MESSAGE_VALUE_BYTES, ge=64 * 1024, le=64 * 1024 * 1024
    )
    # What common parsers of other languages read at least (64 in .NET, 1000 in Jackson).
    max_json_depth: int = Field(default=64, ge=1, le=500)
    # Values on their way, in each direction, in all and of one connection. Where a value may be larger, they
    # are as large as two of it.
    max_bytes_in_flight: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    max_connection_bytes_in_flight: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    # Calls of one connection at a time. Its client keeps the others back, so that they are his own affair.
    max_connection_calls: int = Field(default=100, ge=4, le=10_000)
    # Domains of one backend that a connection may have leases of, for linearizable dicts.
    max_connection_leases: int = Field(default=1000, ge=0, le=1_000_000)
    # By default as many as the files that the process may open leave.
    max_connections: int | None = Field(default=None, ge=1)


def room(limits: Limits, held: Callable[[int], None] = unnoticed) -> Room:
    """Returns the room for values on their way in one direction; `held` is as Room has it."""
    largest = 2 * limits.max_value_bytes
    return Room(
        max(limits.max_bytes_in_flight, largest),
        max(limits.max_connection_bytes_in_flight, largest),
        held,
    )


def max_connections(limits: Limits) -> int:
    """Returns how many connections may be open: as many as leave files for the backends, unless it is set."""
    if limits.max_connections is not None:
        return limits.max_connections
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_CONNECTIONS if files == resource.RLIM_INFINITY else files - max(KEPT_FILES, files // 4)
    return max(1, min(MOST_CONNECTIONS, most))


def max_receive_bytes(limits: Limits) -> int:
    """Returns how large a message gRPC is to read; larger ones it refuses by itself."""
    # Clients that know the default alone may send so much.
    in_message = max(limits.max_message_value_bytes, DEFAULT_MESSAGE_VALUE_BYTES)
    # Twice, so that a value over the limit meets our own error and not gRPC's.
    return 2 * min(limits.max_value_bytes, in_message) + MESSAGE_OVERHEAD


def check_domain(domain: str) -> None:
    _check_text("domain", domain, MAX_DOMAIN_BYTES, reason="INVALID_DOMAIN")


def check_key(key: str, *, field: str = "key") -> None:
    _check_text(field, key, MAX_KEY_BYTES, reason="INVALID_KEY")


def check_request_id(request_id: str) -> None:
    if request_id:
        _check_text("request_id", request_id, MAX_REQUEST_ID_BYTES, reason="INVALID_REQUEST")


def check_ttl(ttl: int) -> None:
    """Refuses a time to live, in microseconds, that is not positive or absurdly long."""
    if not 0 < ttl <= MAX_TTL:
        raise InvalidRequestError("ttl must be more than 0 and at most 100 years", field="ttl")


def check_value_size(value: Value, limits: Limits, *, in_chunks: bool = False) -> int:
    """Refuses a value that is too large, for the message that it came in too. Returns its size in bytes."""
    size = size_of(value)
    if in_chunks:
        check_size(size, limits)
    else:
        check_message_size(size, limits)
    return size


def check_content(value: Value, limits: Limits) -> None:
    """Refuses text that is not strict JSON, or nests too deep. If it is large, this takes long."""
    if isinstance(value, str):
        _check_json(value, limits.max_json_depth)


async def check_large_content(value: Value, limits: Limits) -> None:
    """Does the same, of a value of any size, in a thread if it takes long."""
    if isinstance(value, str) and len(value) > ASIDE_BYTES:
        await asyncio.to_thread(check_content, value, limits)
    else:
        check_content(value, limits)


def check_size(size: int, limits: Limits) -> None:
    """Refuses a value of so many bytes if nothing may be so large."""
    if size > limits.max_value_bytes:
        raise ValueTooLargeError(size, limits.max_value_bytes)


def check_message_size(size: int, limits: Limits) -> None:
    """Refuses a value of so many bytes in a message."""
    check_size(size, limits)
    if size > limits.max_message_value_bytes:
        raise ValueNeedsChunksError(size, limits.max_message_value_bytes)


def fits(value: Value, limits: Limits) -> bool:
    """Returns whether a stored value may be sent in a message."""
    most = limits.max_message_value_bytes
    # No text has more than four bytes for a character, so that small ones need not be looked through.
    return 4 * len(value) <= most or size_of(value) <= most


def check_fits(value: Value, limits: Limits) -> None:
    """Refuses to send a value in a message that it does not fit in."""
    if not fits(value, limits):
        raise ValueNeedsChunksError(size_of(value), limits.max_message_value_bytes)


def size_of(value: Value) -> int:
    """Returns how many bytes the value has on the wire."""
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())


def _check_text(field: str, text: str, limit: int, *, reason: str) -> None:
    if 0 < len(text) <= limit and text.isascii() and "\0" not in text:
        return  # as most are
    size = len(text) if text.isascii() else len(text.encode())
    if not text:
        problem = "is empty"
    elif size > limit:
        problem = f"has {size} bytes, more than {limit}"
    elif "\0" in text:
        problem = "holds a NUL character"
    else:
        return
    raise InvalidRequestError(
        f"{field} {problem}: use 1 to {limit} bytes of UTF-8 without NUL", reason=reason, field=field
    )


def _check_json(text: str, max_depth: int) -> None:
    count = json_text.containers(text)
    try:
        json_text.check(text, count)
    except json_text.NoJsonError as error:
        raise InvalidRequestError(
            f"value.json is not JSON (RFC 8259) at {error}: NaN, infinities, numbers beyond a double's "
            "range, lone surrogates and nesting beyond 1000 levels are not allowed; store other data as "
            "value.raw",
            reason="INVALID_VALUE",
            field="value.json",
        ) from None
    # Most values hold too few brackets to be too deep, which is cheap to see.
    if count > max_depth and json_text.depth(text) > max_depth:
        raise InvalidRequestError(
            f"value.json nests arrays and objects deeper than {max_depth}: flatten it or spread it over keys",
            reason="INVALID_VALUE",
            field="value.json",
        )
