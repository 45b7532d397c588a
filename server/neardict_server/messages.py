"""The contract's messages on one side, the words of the backends' interface on the other."""

from google.protobuf import duration_pb2, timestamp_pb2

from neardict.v1 import storage_pb2

from .backends import base
from .errors import InvalidRequestError


def from_value(message: storage_pb2.Value) -> base.Value:
    # No JSON text is empty, but for one that is a mistake.
    if text := message.json:
        return text
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidRequestError(
            "value is missing: set value.json to JSON text (null is a value) or value.raw to bytes",
            reason="INVALID_VALUE",
            field="value",
        )
    if kind == "json":
        return message.json
    if kind == "raw":
        return message.raw
    raise InvalidRequestError(
        f"value.{kind} cannot be read here: send it as it is", reason="INVALID_VALUE", field="value"
    )


def to_value(value: base.Value) -> storage_pb2.Value:
    return storage_pb2.Value(json=value) if isinstance(value, str) else storage_pb2.Value(raw=value)


def to_page(page: base.Page) -> storage_pb2.AllKeysResponse:
    response = storage_pb2.AllKeysResponse(
        domain_revision=page.domain_revision,
        keys=page.keys,
        unreadable_keys=page.unreadable,
        total_keys=page.total,
    )
    add = response.entries.add
    for entry in page.entries:
        fill_entry(entry, add())
    return response


def fill_entry(entry: base.Entry, message: storage_pb2.Entry) -> None:
    """Words the entry in place: messages that are made apart, and copied, take more than twice as long."""
    message.key, value, message.revision, expires = entry
    if isinstance(value, str):
        message.value.json = value
    else:
        message.value.raw = value
    if expires is not None:
        message.expire_time.CopyFrom(to_timestamp(expires))


def from_condition(request: storage_pb2.SetValueRequest | storage_pb2.DeleteKeyRequest) -> base.Condition:
    which = request.WhichOneof("condition")
    if which is None:
        return None
    if which == "if_revision":
        if not request.if_revision:
            raise InvalidRequestError(
                "if_revision is 0, which no entry has: use if_absent for a key that must not exist",
                field="if_revision",
            )
        return request.if_revision
    if_absent = isinstance(request, storage_pb2.SetValueRequest) and request.if_absent
    return base.ABSENT if if_absent else None


def from_duration(duration: duration_pb2.Duration) -> int:
    """Returns microseconds, rounded up so that no positive duration becomes none."""
    if abs(duration.nanos) >= 10**9 or duration.seconds * duration.nanos < 0:
        raise InvalidRequestError(
            "ttl is no valid Duration: nanos are below a thousand million, and of the same sign as seconds",
            field="ttl",
        )
    return duration.seconds * 1_000_000 + -(-duration.nanos // 1000)


def check_keeps(request: storage_pb2.SetValueRequest) -> None:
    """Refuses what contradicts `keep_ttl`."""
    if request.if_absent:
        raise InvalidRequestError(
            "keep_ttl and if_absent contradict each other: an absent key has no time to live to keep",
            field="keep_ttl",
        )
    if request.HasField("ttl") and from_duration(request.ttl):
        raise InvalidRequestError("give ttl or keep_ttl, not both", field="keep_ttl")


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Returns the message for a number of seconds, to the microsecond."""
    message = duration_pb2.Duration()
    message.FromMicroseconds(round(seconds * 1_000_000))
    return message


def to_timestamp(microseconds: int) -> timestamp_pb2.Timestamp:
    seconds, rest = divmod(microseconds, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)
