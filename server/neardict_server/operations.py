"""Reads and checks the requests of single operations, and words their outcomes: for calls and streams."""

from neardict.v1 import storage_pb2 as pb

from . import limits as checks
from .backends import base
from .errors import CapabilityMissingError
from .limits import Limits
from .messages import check_keeps, fill_entry, from_condition, from_duration, from_value, to_timestamp


def read_get(request: pb.GetValueRequest) -> base.Get:
    checks.check_key(request.key)
    return base.Get(request.key)


def read_set(request: pb.SetValueRequest, backend: base.Backend, limits: Limits) -> tuple[base.Set, int]:
    """Returns the operation, and how many bytes its value has. Its content is still to be checked."""
    value = from_value(request.value)
    size = checks.check_value_size(value, limits)
    return read_head(request, backend, value), size


def read_head(request: pb.SetValueRequest, backend: base.Backend, value: base.Value) -> base.Set:
    """Reads the rest of a request, with this for its value."""
    checks.check_key(request.key)
    checks.check_request_id(request.request_id)
    ttl: base.Ttl = None
    if request.keep_ttl:
        check_keeps(request)
        ttl = base.KEEP
    elif request.HasField("ttl"):
        ttl = from_duration(request.ttl)
        checks.check_ttl(ttl)
        if base.Capability.TTL not in backend.capabilities:
            raise CapabilityMissingError("CAPABILITY_TTL")
    return base.Set(request.key, value, ttl, from_condition(request), request.request_id)


def read_delete(request: pb.DeleteKeyRequest) -> base.Delete:
    checks.check_key(request.key)
    checks.check_request_id(request.request_id)
    return base.Delete(request.key, from_condition(request), request.request_id)


def word_lookup(lookup: base.Lookup, response: pb.GetValueResponse, limits: Limits) -> None:
    """Fills the response. Raises ValueNeedsChunksError if it would be too large.

    In place, as these do, takes half of the time of making and copying parts.
    """
    entry, revision = lookup
    if entry is not None:
        checks.check_fits(entry.value, limits)
        response.found = True
        fill_entry(entry, response.entry)
    response.domain_revision = revision


def word_written(outcome: base.Written, response: pb.SetValueResponse | pb.WriteValueResponse) -> None:
    response.revision = outcome.revision
    if outcome.expires is not None:
        response.expire_time.CopyFrom(to_timestamp(outcome.expires))


def word_deleted(outcome: base.Deleted, response: pb.DeleteKeyResponse) -> None:
    response.existed, response.revision = outcome
