"""What a service may answer, checked before anything is made of it, for both clients. No I/O.

A service that is wrong, or hostile, ends in a ServiceError that says what it did, and never what it sent: not
in a wrong value, in memory that nobody asked for, or in an error that is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from . import _compression
from .errors import ServiceError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf import duration_pb2

_Answer = TypeVar("_Answer")

# A revision is at most one more than the one before, or microseconds since the epoch, and a double holds it
# exactly. What is beyond, held by a dict, would keep out every later change for ever.
REVISIONS_END = 2**53
# What a Timestamp may be: the years 1 to 9999.
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_LONGEST_DURATION = 315_576_000_000  # seconds, as protobuf has it
# The most that any service can be configured to take, and what one takes that nobody has configured.
MOST_VALUE_BYTES = 256 * 1024 * 1024
MOST_MESSAGE_VALUE_BYTES = 64 * 1024 * 1024
_USUAL_VALUE_BYTES = 1024 * 1024
_USUAL_MESSAGE_VALUE_BYTES = 4 * 1024 * 1024 - 64 * 1024


def protocol_error(target: str, problem: str) -> ServiceError:
    """Returns the error for an answer of `target` that the contract does not know."""
    return ServiceError(f"protocol error: {target} {problem}")


def checked(answer: _Answer | None, problem: Callable[[_Answer], str], target: str) -> _Answer:
    """Returns the answer of `target`. Raises ServiceError if it has that problem, or could not be read."""
    # None is what grpc.aio gives, and logs, for bytes that are no message.
    if what := "sent an answer that cannot be read" if answer is None else problem(answer):
        raise protocol_error(target, what)
    return cast("_Answer", answer)


# Each of these returns what is wrong, as "sent ..."; "" if nothing is.


def lookup_problem(answer: pb.GetValueResponse, key: str, accept: int) -> str:
    """Looks at the answer of GetValue for the key, to one who accepts that compression."""
    # What is usual, at once: this is done for every look-up. No JSON text is empty.
    if answer.found and answer.domain_revision < REVISIONS_END:
        entry = answer.entry
        if (
            entry.key == key
            and 0 < entry.revision < REVISIONS_END
            and entry.value.json
            and not entry.HasField("expire_time")
        ):
            return ""
    if answer.domain_revision >= REVISIONS_END:
        return f"sent the domain's revision {answer.domain_revision}, which is beyond all revisions"
    return entry_problem(answer.entry, key, accept) if answer.found else ""


def entry_problem(entry: pb.Entry, key: str, accept: int) -> str:
    """Looks at the entry of the key."""
    if entry.key != key:
        return "answered for another key than the one that was asked for"
    if not 0 < entry.revision < REVISIONS_END:
        return f"sent an entry with the revision {entry.revision}, which no write has"
    return value_problem(entry.value, accept) or expiry_problem(entry)


def value_problem(value: pb.Value, accept: int) -> str:
    """Looks at what kind of value it is."""
    if value.HasField("json") or value.HasField("raw"):
        return ""
    if value.WhichOneof("kind") is None:
        return "sent a value of a kind that this version does not know: upgrade neardict"
    return "" if accept else "sent a compressed value, for which it was not asked"


def expiry_problem(message: pb.Entry | pb.Change | pb.SetValueResponse | pb.WriteValueResponse) -> str:
    """Looks at when something expires."""
    if message.HasField("expire_time"):
        time = message.expire_time
        if not _FIRST_SECOND <= time.seconds <= _LAST_SECOND or not 0 <= time.nanos < 10**9:
            return "sent an expire_time that is no time of the years 1 to 9999"
    return ""


def written_problem(answer: pb.SetValueResponse | pb.WriteValueResponse) -> str:
    """Looks at the answer of SetValue or WriteValue."""
    if not 0 < answer.revision < REVISIONS_END:
        return f"answered a write with the revision {answer.revision}, which no write has"
    return expiry_problem(answer)


def deleted_problem(answer: pb.DeleteKeyResponse) -> str:
    """Looks at the answer of DeleteKey."""
    if answer.revision >= REVISIONS_END:
        return f"answered a deletion with the revision {answer.revision}, which is beyond all revisions"
    return ""


def change_problem(change: pb.Change) -> str:
    """Looks at a change that is told on a Watch stream."""
    if not 0 < change.revision < REVISIONS_END:
        return f"told a change with the revision {change.revision}, which no write has"
    if not change.key:
        return "told a change of an empty key"
    kind = change.kind
    if kind == pb.Change.KIND_DELETE:
        return ""
    if kind != pb.Change.KIND_SET:
        return f"told a change of the kind {int(kind)}, which this version does not know"
    # One of a kind that is not known has to be looked up, as one that is too large to come along.
    if change.HasField("value") and change.value.WhichOneof("kind") in _compression.KINDS:
        return "told a change with a compressed value, for which it was not asked"
    return expiry_problem(change)


def subscribed_problem(message: pb.Subscribed) -> str:
    """Looks at the beginning of a subscription."""
    if message.revision >= REVISIONS_END:
        return f"began a subscription at the revision {message.revision}, which is beyond all revisions"
    if message.HasField("lease_duration") and not _is_duration(message.lease_duration):
        return "gave a lease for a time that is none"
    return ""


def info_problem(info: pb.GetServerInfoResponse) -> str:
    """Looks at what the service says of itself."""
    if not (_is_duration(info.heartbeat_period) and _is_duration(info.limits.request_id_window)):
        return "described itself with a time that is none"
    return ""


def _is_duration(message: duration_pb2.Duration) -> bool:
    return 0 <= message.seconds <= _LONGEST_DURATION and 0 <= message.nanos < 10**9


class TooLargeError(ServiceError):
    """A value is larger than what the service says that it takes."""


class Bounds:
    """How large values may be that come in: what the service itself says that it takes, once it was asked.

    Before, what a service takes that nobody has configured; what is larger is worth asking. What none can be
    configured to take is too much in any case.
    """

    def __init__(self) -> None:
        self._value = _USUAL_VALUE_BYTES
        self._message = _USUAL_MESSAGE_VALUE_BYTES

    def learn(self, limits: pb.Limits | None) -> None:
        """Takes notice of the service's limits; of None, or a limit that is not given, that it has none."""
        value = 0 if limits is None else limits.max_value_bytes
        message = 0 if limits is None else limits.max_message_value_bytes
        self._value = min(value or MOST_VALUE_BYTES, MOST_VALUE_BYTES)
        self._message = min(message or MOST_MESSAGE_VALUE_BYTES, MOST_MESSAGE_VALUE_BYTES)

    def value_problem(self, size: int) -> str:
        """Looks at the size of a value that comes in chunks, compressed or not."""
        if size <= self._value:
            return ""
        return (
            f"sent a value of {size} bytes, more than its Limits.max_value_bytes, {self._value}: raise that, "
            "if the value is from before it was lowered"
        )

    def message_problem(self, size: int) -> str:
        """Looks at what the compressed values of one message hold together."""
        if size <= self._message:
            return ""
        return (
            f"sent a message whose compressed values have {size} bytes, more than its "
            f"Limits.max_message_value_bytes, {self._message}"
        )


def content_size(values: Iterable[pb.Value]) -> int:
    """Returns how many bytes those of the values that are compressed say that they have when they are not.

    0 for one that does not say it: such a one is never decompressed.
    """
    size = 0
    for value in values:
        kind = value.WhichOneof("kind")
        if kind in _compression.KINDS:
            size += _compression.content_size(getattr(value, kind)) or 0
    return size
