"""Translates between the contract's messages and the backends' interface."""

from __future__ import annotations  # grpc classes are generic for type checkers only

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2, timestamp_pb2

from neardict.v1 import storage_pb2, storage_pb2_grpc

from . import limits as checks
from .backends import base
from .backends.request_ids import WINDOW
from .errors import CapabilityMissingError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import grpc.aio

    from .limits import Limits
    from .router import Router

    _Context = grpc.aio.ServicerContext[Any, Any]


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """The RPCs: check the request, ask the backend of its domain, word the response."""

    def __init__(self, router: Router, limits: Limits, info: storage_pb2.GetServerInfoResponse) -> None:
        self._router = router
        self._limits = limits
        self._info = info

    async def GetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetValueRequest, context: _Context
    ) -> storage_pb2.GetValueResponse:
        checks.check_key(request.key)
        backend = self._backend(request.domain)
        entry, revision = await backend.get_value(request.domain, request.key)
        if entry is None:
            return storage_pb2.GetValueResponse(domain_revision=revision)
        return storage_pb2.GetValueResponse(found=True, entry=to_entry(entry), domain_revision=revision)

    async def SetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.SetValueRequest, context: _Context
    ) -> storage_pb2.SetValueResponse:
        checks.check_key(request.key)
        checks.check_request_id(request.request_id)
        value = from_value(request.value)
        checks.check_value(value, self._limits)
        backend = self._backend(request.domain)
        ttl = None
        if request.HasField("ttl"):
            ttl = from_duration(request.ttl)
            checks.check_ttl(ttl)
            if base.Capability.TTL not in backend.capabilities:
                raise CapabilityMissingError("CAPABILITY_TTL")
        written = await backend.set_value(
            request.domain,
            request.key,
            value,
            ttl=ttl,
            condition=from_condition(request),
            request_id=request.request_id,
        )
        response = storage_pb2.SetValueResponse(revision=written.revision)
        if written.expires is not None:
            response.expire_time.CopyFrom(to_timestamp(written.expires))
        return response

    async def DeleteKey(  # noqa: N802  # the contract's name
        self, request: storage_pb2.DeleteKeyRequest, context: _Context
    ) -> storage_pb2.DeleteKeyResponse:
        checks.check_key(request.key)
        checks.check_request_id(request.request_id)
        existed, revision = await self._backend(request.domain).delete_key(
            request.domain,
            request.key,
            condition=from_condition(request),
            request_id=request.request_id,
        )
        return storage_pb2.DeleteKeyResponse(existed=existed, revision=revision)

    async def AllKeys(  # noqa: N802  # the contract's name
        self, request: storage_pb2.AllKeysRequest, context: _Context
    ) -> AsyncIterator[storage_pb2.AllKeysResponse]:
        if request.prefix:
            checks.check_key(request.prefix, field="prefix")
        backend = self._backend(request.domain)
        listing = backend.all_keys(request.domain, prefix=request.prefix, entries=request.include_entries)
        async with aclosing(listing):  # type: ignore[type-var]  # every backend yields from a generator
            async for page in listing:
                yield storage_pb2.AllKeysResponse(
                    domain_revision=page.domain_revision,
                    keys=page.keys,
                    entries=map(to_entry, page.entries),
                    unreadable_keys=page.unreadable,
                )

    async def GetServerInfo(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetServerInfoRequest, context: _Context
    ) -> storage_pb2.GetServerInfoResponse:
        return self._info

    def _backend(self, domain: str) -> base.Backend:
        checks.check_domain(domain)
        return self._router.backend(domain)


def server_info(
    version: str,
    limits: Limits,
    backends: Mapping[str, tuple[str, base.Backend]],
    routes: Sequence[tuple[str, str]],
) -> storage_pb2.GetServerInfoResponse:
    """Returns what GetServerInfo answers; `backends` maps a name to its implementation and itself."""
    return storage_pb2.GetServerInfoResponse(
        version=version,
        limits=storage_pb2.Limits(
            max_domain_bytes=checks.MAX_DOMAIN_BYTES,
            max_key_bytes=checks.MAX_KEY_BYTES,
            max_value_bytes=limits.max_value_bytes,
            max_json_depth=limits.max_json_depth,
            request_id_window=duration_pb2.Duration(seconds=WINDOW // 1_000_000),
        ),
        backends=[
            storage_pb2.BackendInfo(
                name=name,
                implementation=implementation,
                capabilities=sorted(f"CAPABILITY_{capability.value}" for capability in backend.capabilities),
            )
            for name, (implementation, backend) in backends.items()
        ],
        routes=[storage_pb2.Route(domain=domain, backend=name) for domain, name in routes],
    )


def from_value(message: storage_pb2.Value) -> base.Value:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidRequestError(
            "value is missing: set value.json to JSON text (null is a value) or value.raw to bytes",
            reason="INVALID_VALUE",
            field="value",
        )
    return message.json if kind == "json" else message.raw


def to_entry(entry: base.Entry) -> storage_pb2.Entry:
    key, value, revision, expires = entry
    if isinstance(value, str):
        message = storage_pb2.Entry(key=key, value=storage_pb2.Value(json=value), revision=revision)
    else:
        message = storage_pb2.Entry(key=key, value=storage_pb2.Value(raw=value), revision=revision)
    if expires is not None:
        message.expire_time.CopyFrom(to_timestamp(expires))
    return message


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


def to_timestamp(microseconds: int) -> timestamp_pb2.Timestamp:
    seconds, rest = divmod(microseconds, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)
