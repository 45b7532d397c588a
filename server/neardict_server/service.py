"""Translates between the contract's messages and the backends' interface."""

from __future__ import annotations  # grpc classes are generic for type checkers only

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from neardict.v1 import storage_pb2, storage_pb2_grpc

from . import chunks, compression, operations
from . import limits as checks
from .backends.request_ids import WINDOW
from .errors import TooMuchInFlightError
from .messages import to_duration, to_page
from .room import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import grpc.aio

    from .backends import base
    from .changes.stream import Streams
    from .execution import Executions
    from .limits import Limits
    from .room import Room
    from .router import Router

    _Context = grpc.aio.ServicerContext[Any, Any]


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """The RPCs: check the request, ask the backend of its domain, word the response."""

    def __init__(
        self,
        router: Router[base.Backend],
        streams: Streams,
        executions: Executions,
        limits: Limits,
        info: storage_pb2.GetServerInfoResponse,
        *,
        arriving: Room,
        leaving: Room,
    ) -> None:
        """`arriving` and `leaving` are room for values that come in, and that go out."""
        self._router = router
        self._streams = streams
        self._executions = executions
        self._limits = limits
        self._info = info
        # By which a client knows whether it has come to another process that serves.
        self._instance = uuid.uuid4().hex
        self._arriving = arriving
        self._leaving = leaving

    async def GetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetValueRequest, context: _Context
    ) -> storage_pb2.GetValueResponse:
        domain = request.domain
        backend = self._backend(domain)
        key = request.key
        checks.check_key(key)
        lookup = await self._find(backend, domain, key, context)
        response = storage_pb2.GetValueResponse()
        operations.word_lookup(lookup, response, self._limits)
        if request.accept and response.found:
            plain = response.entry.value
            plain.CopyFrom(await compression.value(plain, request.accept))
        return response

    async def SetValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.SetValueRequest, context: _Context
    ) -> storage_pb2.SetValueResponse:
        if request.value.WhichOneof("kind") in compression.KINDS:
            request.value.CopyFrom(await compression.plain(request.value, self._limits))
        domain = request.domain
        backend = self._backend(domain)
        operation, size = operations.read_set(request, backend, self._limits)
        # A copy of the value, which would stay while the backend works.
        request.Clear()
        if size > SMALL_BYTES:
            self._arrive(context, size)
        await checks.check_large_content(operation.value, self._limits)
        response = storage_pb2.SetValueResponse()
        operations.word_written(await _set(backend, domain, operation), response)
        return response

    async def ReadValue(  # noqa: N802  # the contract's name
        self, request: storage_pb2.ReadValueRequest, context: _Context
    ) -> AsyncIterator[storage_pb2.ReadValueResponse]:
        checks.check_key(request.key)
        backend = self._backend(request.domain)
        lookup = await self._find(backend, request.domain, request.key, context)
        async for part in chunks.parts(lookup, request.accept):
            yield part

    async def WriteValue(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[storage_pb2.WriteValueRequest], context: _Context
    ) -> storage_pb2.WriteValueResponse:
        head = await chunks.head(request_iterator)
        # All that can be refused is refused before the value comes.
        backend = self._backend(head.request.domain)
        empty = operations.read_head(head.request, backend, "")
        async with self._arriving.of(context.peer(), chunks.room_of(head, self._limits)):
            await context.send_initial_metadata(chunks.WELCOME)
            value = await chunks.gather(head, request_iterator)
            checks.check_value_size(value, self._limits, in_chunks=True)
            await checks.check_large_content(value, self._limits)
            operation = empty._replace(value=value)
            response = storage_pb2.WriteValueResponse()
            operations.word_written(await _set(backend, head.request.domain, operation), response)
            return response

    async def DeleteKey(  # noqa: N802  # the contract's name
        self, request: storage_pb2.DeleteKeyRequest, context: _Context
    ) -> storage_pb2.DeleteKeyResponse:
        key, condition, request_id = operations.read_delete(request)
        deleted = await self._backend(request.domain).delete_key(
            request.domain, key, condition=condition, request_id=request_id
        )
        response = storage_pb2.DeleteKeyResponse()
        operations.word_deleted(deleted, response)
        return response

    async def Execute(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[storage_pb2.ExecuteRequest], context: _Context
    ) -> AsyncIterator[storage_pb2.ExecuteResponse]:
        async with aclosing(self._executions.serve(request_iterator, context.peer())) as responses:
            async for response in responses:
                yield response

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
                    response = to_page(part)
                    response.large_keys.extend(large_keys)
                    if request.accept:
                        for entry in response.entries:
                            entry.value.CopyFrom(await compression.value(entry.value, request.accept))
                    yield response

    async def Watch(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[storage_pb2.WatchRequest], context: _Context
    ) -> AsyncIterator[storage_pb2.WatchResponse]:
        await context.send_initial_metadata((("neardict-instance", self._instance),))
        async with aclosing(self._streams.serve(request_iterator, context.peer())) as responses:
            async for response in responses:
                yield response

    async def GetServerInfo(  # noqa: N802  # the contract's name
        self, request: storage_pb2.GetServerInfoRequest, context: _Context
    ) -> storage_pb2.GetServerInfoResponse:
        return self._info

    async def _find(self, backend: base.Backend, domain: str, key: str, context: _Context) -> base.Lookup:
        """Looks up; returns a large value when there is room to send it, which is held until it has gone out.

        While that takes, nothing is held: it is looked up again.
        """
        lookup = await backend.get_value(domain, key)
        if lookup.entry is None or (size := len(lookup.entry.value)) <= SMALL_BYTES:
            return lookup
        connection = context.peer()
        if self._leaving.try_hold(connection, size):
            _give_back(self._leaving, connection, size, context)
            return lookup
        del lookup
        await self._leaving.hold(connection, size)
        _give_back(self._leaving, connection, size, context)
        return await backend.get_value(domain, key)

    def _arrive(self, context: _Context, size: int) -> None:
        """Holds room for a value that has come, until its call is over. Raises TooMuchInFlightError."""
        connection = context.peer()
        if not self._arriving.fits(connection, size):
            raise TooMuchInFlightError
        self._arriving.take(connection, size)
        _give_back(self._arriving, connection, size, context)

    def _backend(self, domain: str) -> base.Backend:
        checks.check_domain(domain)
        return self._router.backend(domain)


def _give_back(room: Room, connection: str, size: int, context: _Context) -> None:
    """Holds the room until the call is over: until its reply has gone out, if it has one."""

    def give(_: object) -> None:
        room.give(connection, size)

    context.add_done_callback(give)  # type: ignore[arg-type]  # types-grpcio has no Protocol there


async def _set(backend: base.Backend, domain: str, operation: base.Set) -> base.Written:
    key, value, ttl, condition, request_id = operation
    return await backend.set_value(domain, key, value, ttl=ttl, condition=condition, request_id=request_id)


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
