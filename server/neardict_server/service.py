"""Translates between the contract's messages and the backends' interface."""

from __future__ import annotations  # grpc classes are generic for type checkers only

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from neardict.v1 import storage_pb2, storage_pb2_grpc

from . import chunks, compression
from . import limits as checks
from .backends import base
from .backends.request_ids import WINDOW
from .errors import CapabilityMissingError
from .messages import from_condition, from_duration, from_value, to_duration, to_entry, to_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import grpc.aio

    from .changes.stream import Streams
    from .limits import Limits
    from .router import Router

    _Context = grpc.aio.ServicerContext[Any, Any]


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """The RPCs: check the request, ask the backend of its domain, word the response."""

    def __init__(
        self,
        router: Router[base.Backend],
        streams: Streams,
        limits: Limits,
        info: storage_pb2.GetServerInfoResponse,
    ) -> None:
        self._router = router
        self._streams = streams
        self._limits = limits
        self._info = info
        self._uploads = chunks.Uploads(limits.max_value_bytes)

    async def GetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetValueRequest, context: _Context
    ) -> storage_pb2.GetValueResponse:
        checks.check_key(request.key)
        backend = self._backend(request.domain)
        entry, revision = await backend.get_value(request.domain, request.key)
        if entry is None:
            return storage_pb2.GetValueResponse(domain_revision=revision)
        checks.check_fits(entry.value, self._limits)
        message = to_entry(entry)
        if request.accept:
            message.value.CopyFrom(await compression.value(message.value, request.accept))
        return storage_pb2.GetValueResponse(found=True, entry=message, domain_revision=revision)

    async def SetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.SetValueRequest, context: _Context
    ) -> storage_pb2.SetValueResponse:
        checks.check_key(request.key)
        checks.check_request_id(request.request_id)
        value = from_value(await compression.plain(request.value, self._limits))
        checks.check_value(value, self._limits)
        return await self._set(request, value)

    async def ReadValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.ReadValueRequest, context: _Context
    ) -> AsyncIterator[storage_pb2.ReadValueResponse]:
        checks.check_key(request.key)
        backend = self._backend(request.domain)
        lookup = await backend.get_value(request.domain, request.key)
        async for part in chunks.parts(lookup, request.accept):
            yield part

    async def WriteValue(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[storage_pb2.WriteValueRequest], context: _Context
    ) -> storage_pb2.WriteValueResponse:
        head = await chunks.head(request_iterator)
        request = head.request
        # All that can be refused is refused before the value comes.
        checks.check_key(request.key)
        checks.check_request_id(request.request_id)
        room = chunks.room_of(head, self._limits)
        self._backend_and_ttl(request)
        from_condition(request)
        async with self._uploads.room(room):
            await context.send_initial_metadata(chunks.WELCOME)
            value = await chunks.gather(head, request_iterator)
            checks.check_value(value, self._limits, in_chunks=True)
            return storage_pb2.WriteValueResponse(answer=await self._set(request, value))

    async def _set(
        self, request: storage_pb2.SetValueRequest, value: base.Value
    ) -> storage_pb2.SetValueResponse:
        backend, ttl = self._backend_and_ttl(request)
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
                for part, large_keys in chunks.in_messages(page, self._limits):
                    entries = [*map(to_entry, part.entries)]
                    if request.accept:
                        for entry in entries:
                            entry.value.CopyFrom(await compression.value(entry.value, request.accept))
                    yield storage_pb2.AllKeysResponse(
                        domain_revision=part.domain_revision,
                        keys=part.keys,
                        entries=entries,
                        unreadable_keys=part.unreadable,
                        large_keys=large_keys,
                    )

    async def Watch(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[storage_pb2.WatchRequest], context: _Context
    ) -> AsyncIterator[storage_pb2.WatchResponse]:
        async with aclosing(self._streams.serve(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def GetServerInfo(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetServerInfoRequest, context: _Context
    ) -> storage_pb2.GetServerInfoResponse:
        return self._info

    def _backend_and_ttl(self, request: storage_pb2.SetValueRequest) -> tuple[base.Backend, int | None]:
        backend = self._backend(request.domain)
        if not request.HasField("ttl"):
            return backend, None
        ttl = from_duration(request.ttl)
        checks.check_ttl(ttl)
        if base.Capability.TTL not in backend.capabilities:
            raise CapabilityMissingError("CAPABILITY_TTL")
        return backend, ttl

    def _backend(self, domain: str) -> base.Backend:
        checks.check_domain(domain)
        return self._router.backend(domain)


def server_info(
    version: str,
    limits: Limits,
    backends: Mapping[str, tuple[str, base.Backend]],
    routes: Sequence[tuple[str, str]],
    heartbeat_seconds: float,
) -> storage_pb2.GetServerInfoResponse:
    """Returns what GetServerInfo answers; `backends` maps a name to its implementation and itself."""
    return storage_pb2.GetServerInfoResponse(
        version=version,
        limits=storage_pb2.Limits(
            max_domain_bytes=checks.MAX_DOMAIN_BYTES,
            max_key_bytes=checks.MAX_KEY_BYTES,
            max_value_bytes=limits.max_value_bytes,
            max_json_depth=limits.max_json_depth,
            request_id_window=to_duration(WINDOW / 1_000_000),
            max_message_value_bytes=limits.max_message_value_bytes,
        ),
        backends=[
            storage_pb2.BackendInfo(
                name=name,
                implementation=implementation,
                capabilities=sorted(f"CAPABILITY_{capability.value}" for capability in backend.capabilities),
            )
            for name, (implementation, backend) in backends.items()
        ],
        heartbeat_period=to_duration(heartbeat_seconds),
        compressions=[compression.ZSTD],
        routes=[storage_pb2.Route(domain=domain, backend=name) for domain, name in routes],
    )
