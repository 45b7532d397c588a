"""Words the requests and reads the responses, for the sync and the async store alike. No I/O."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from google.protobuf import duration_pb2

from . import _replies, _timeouts, values
from ._changes import Change
from ._request_ids import new_request_id
from .entry import Entry
from .errors import (
    CapabilityMissingError,
    InvalidArgumentError,
    InvalidTypeError,
    NeardictError,
    ServiceError,
    UnsupportedValueError,
)
from .v1 import storage_pb2 as pb

# Time to live: seconds, or a timedelta.
Ttl = float | datetime.timedelta | None

MAX_KEY_BYTES = 1024

# What CapabilityMissingError names for a service that does not know the field.
KEEP_TTL = "keep_ttl"

_Request = TypeVar("_Request")


class Written(NamedTuple):
    """What became of a write: its revision, and when the entry expires, in seconds since the epoch."""

    revision: int
    expires: float | None = None


def set_value(
    domain: str,
    key: str,
    value: pb.Value,
    *,
    ttl: Ttl = None,
    keep_ttl: bool = False,
    if_revision: int | None = None,
    if_absent: bool = False,
) -> pb.SetValueRequest:
    if if_absent and if_revision is not None:
        raise InvalidArgumentError("give if_revision or if_absent, not both")
    if keep_ttl and ttl is not None:
        raise InvalidArgumentError("give ttl or keep_ttl, not both")
    if keep_ttl and if_absent:
        raise InvalidArgumentError("give keep_ttl or if_absent, not both: an absent key has no time to live")
    check_names(domain, key)
    request = pb.SetValueRequest(domain=domain, key=key, value=value, request_id=new_request_id())
    if ttl is not None:
        request.ttl.CopyFrom(_duration(ttl))
    elif keep_ttl:
        request.keep_ttl = True
        # A service that does not know the field refuses this, rather than make the entry permanent.
        request.ttl.SetInParent()
    if if_revision is not None:
        request.if_revision = _revision(if_revision)
    elif if_absent:
        request.if_absent = True
    return request


def each(entries: Mapping[str, Any], word: Callable[[str, Any], _Request]) -> dict[str, _Request]:
    """Words a write of each entry. Raises UnsupportedValueError, which names the key, before all of them."""
    if not isinstance(entries, Mapping):
        raise InvalidTypeError(f"the entries must be a dict, and this is a {type(entries).__name__}")
    requests = {}
    for key, value in entries.items():
        try:
            requests[key] = word(key, value)
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"{error} (under the key {key!r})") from None
    return requests


def delete_key(domain: str, key: str, *, if_revision: int | None = None) -> pb.DeleteKeyRequest:
    check_names(domain, key)
    request = pb.DeleteKeyRequest(domain=domain, key=key, request_id=new_request_id())
    if if_revision is not None:
        request.if_revision = _revision(if_revision)
    return request


def get_value(domain: str, key: str) -> pb.GetValueRequest:
    check_names(domain, key)
    return pb.GetValueRequest(domain=domain, key=key)


def all_keys(domain: str, *, prefix: str = "", entries: bool = False) -> pb.AllKeysRequest:
    check_text("domain", domain)
    if prefix:
        check_text("prefix", prefix)
    return pb.AllKeysRequest(domain=domain, prefix=prefix, include_entries=entries)


def entry(message: pb.Entry, accept: int) -> Entry:
    """Returns the entry, whose value may be compressed as was said that it is accepted."""
    return Entry(message.key, values.decode(message.value, accept), message.revision, expire_time(message))


def written(
    request: pb.SetValueRequest, response: pb.SetValueResponse | pb.WriteValueResponse, call: int
) -> Change:
    """Returns the change that the write has made, as the call of this number."""
    return Change(request.key, response.revision, request.value, expiry(response), call)


def removed(request: pb.DeleteKeyRequest, response: pb.DeleteKeyResponse, call: int) -> Change:
    """Returns the change that the deletion has made, as the call of this number."""
    return Change(request.key, response.revision, None, None, call)


def expire_time(
    message: pb.Entry | pb.SetValueResponse | pb.WriteValueResponse | pb.Change,
) -> datetime.datetime | None:
    """Returns when the entry expires, None for never. Raises ServiceError if that is no time."""
    if not message.HasField("expire_time"):
        return None
    if problem := _replies.expiry_problem(message):
        raise ServiceError(f"protocol error: the service {problem}")
    return message.expire_time.ToDatetime(tzinfo=datetime.UTC)


def expiry(message: pb.Entry | pb.SetValueResponse | pb.WriteValueResponse | pb.Change) -> float | None:
    """Returns when the entry expires, in seconds since the epoch, None for never. Raises as `expire_time`."""
    expires = expire_time(message)
    return None if expires is None else expires.timestamp()


def outcome(response: pb.SetValueResponse | pb.WriteValueResponse) -> Written:
    return Written(response.revision, expiry(response))


def meaning(request: pb.SetValueRequest, error: NeardictError) -> NeardictError:
    """Returns the error to raise for a write that failed with this one."""
    if not (request.keep_ttl and isinstance(error, InvalidArgumentError) and error.field == "ttl"):
        return error
    return CapabilityMissingError(
        "this service is older than the client, and cannot keep the time to live of an entry: update the "
        "service, or give a ttl",
        reason="CAPABILITY_MISSING",
        capability=KEEP_TTL,
    )


def check_keys(keys: Iterable[str]) -> Iterable[str]:
    """Returns the keys. Raises InvalidArgumentError for a text, which would be a key for each letter."""
    if isinstance(keys, str | bytes):
        raise InvalidTypeError("keys must be a list of keys: a text would be one for each of its letters")
    return keys


def may_exist(key: object) -> bool:
    """Returns whether the service could hold such a key, without asking it.

    Raises TypeError for what is not hashable, as dict does.
    """
    if not isinstance(key, str):
        hash(key)
        return False
    if not key or "\0" in key:
        return False
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def check_names(domain: str, key: str) -> None:
    """Refuses what protobuf could not carry of an entry's names; the service checks the rest."""
    # What is usual, at once: this is done for every operation.
    if type(domain) is type(key) is str and domain.isascii() and key.isascii():
        return
    check_text("domain", domain)
    check_text("key", key)


def check_text(field: str, text: str) -> None:
    """Refuses what protobuf could not carry, in words of ours; the service checks the rest."""
    if not isinstance(text, str):
        raise InvalidTypeError(f"{field} must be a str, not {type(text).__name__}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{field} holds a lone surrogate: it is no Unicode text") from None


def _revision(revision: int) -> int:
    if not isinstance(revision, int) or isinstance(revision, bool) or not 0 < revision < 2**64:
        raise InvalidArgumentError("if_revision must be the revision of an entry; for none, use if_absent")
    return revision


def check_ttl(ttl: Ttl) -> Ttl:
    """Returns the time to live. Raises InvalidArgumentError if it is none."""
    if ttl is not None:
        _duration(ttl)
    return ttl


def _duration(ttl: float | datetime.timedelta) -> duration_pb2.Duration:
    given: Any = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else ttl
    if not _timeouts.is_number(given):
        raise InvalidTypeError(f"ttl must be seconds or a timedelta, not {type(ttl).__name__}")
    if not 0 < given <= 100 * 365 * 24 * 3600:
        raise InvalidArgumentError("ttl must be more than 0 seconds and at most 100 years")
    microseconds = max(1, round(float(given) * 1_000_000))
    return duration_pb2.Duration(seconds=microseconds // 10**6, nanos=microseconds % 10**6 * 1000)
