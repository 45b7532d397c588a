"""A served backend behind the backend interface, so that what holds for the object holds for the service."""

from __future__ import annotations  # grpc classes are generic for type checkers only

from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .. import errors
from ..backends import base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf import timestamp_pb2


class RemoteBackend:
    """Uses the generated stubs and nothing else. `close` closes the channel, not the service."""

    def __init__(self, target: str, capabilities: frozenset[base.Capability]) -> None:
        self.capabilities = capabilities
        self._channel = grpc.aio.insecure_channel(target)
        self._stub: Any = storage_pb2_grpc.StorageServiceStub(self._channel)

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        try:
            response = await self._stub.GetValue(pb.GetValueRequest(domain=domain, key=key))
        except grpc.aio.AioRpcError as error:
            _raise(error)
        entry = _entry(response.entry) if response.found else None
        return base.Lookup(entry, response.domain_revision)

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: base.Ttl = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        request = pb.SetValueRequest(
            domain=domain,
            key=key,
            value=pb.Value(json=value) if isinstance(value, str) else pb.Value(raw=value),
            request_id=request_id,
        )
        if ttl is base.KEEP:
            request.keep_ttl = True
        elif ttl is not None:
            request.ttl.CopyFrom(duration_pb2.Duration(seconds=ttl // 10**6, nanos=ttl % 10**6 * 1000))
        if condition == base.ABSENT:
            request.if_absent = True
        elif condition is not None:
            request.if_revision = condition
        try:
            response = await self._stub.SetValue(request)
        except grpc.aio.AioRpcError as error:
            _raise(error)
        expires = _microseconds(response.expire_time) if response.HasField("expire_time") else None
        return base.Written(response.revision, expires)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        request = pb.DeleteKeyRequest(domain=domain, key=key, request_id=request_id)
        if condition is not None:
            request.if_revision = condition
        try:
            response = await self._stub.DeleteKey(request)
        except grpc.aio.AioRpcError as error:
            _raise(error)
        return base.Deleted(response.existed, response.revision)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        request = pb.AllKeysRequest(domain=domain, prefix=prefix, include_entries=entries)
        try:
            async for response in self._stub.AllKeys(request):
                yield base.Page(
                    response.domain_revision,
                    list(response.keys),
                    [_entry(entry) for entry in response.entries],
                    list(response.unreadable_keys),
                    response.total_keys,
                )
        except grpc.aio.AioRpcError as error:
            _raise(error)

    async def close(self) -> None:
        await self._channel.close()


def _entry(message: pb.Entry) -> base.Entry:
    value = message.value.json if message.value.WhichOneof("kind") == "json" else message.value.raw
    expires = _microseconds(message.expire_time) if message.HasField("expire_time") else None
    return base.Entry(message.key, value, message.revision, expires)


def _microseconds(timestamp: timestamp_pb2.Timestamp) -> int:
    return timestamp.seconds * 10**6 + timestamp.nanos // 1000


def _raise(error: grpc.aio.AioRpcError) -> NoReturn:
    """Raises the storage error that the service's edge made the status of."""
    info = error_details_pb2.ErrorInfo()
    for name, data in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(data if isinstance(data, bytes) else data.encode())
            for detail in status.details:
                detail.Unpack(info)
    message = error.details() or ""
    if info.reason == errors.ConditionFailedError.reason:
        raise errors.ConditionFailedError(int(info.metadata["current_revision"])) from error
    if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
        raise errors.InvalidRequestError(message, reason=info.reason) from error
    for kind in (errors.CorruptEntryError, errors.BackendUnavailableError, errors.StorageFullError):
        if info.reason == kind.reason:
            raise kind(message) from error
    raise error
