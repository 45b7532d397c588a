"""Reads and writes, synchronously, values that do not fit in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _chunks, _compression
from ._patience import patiently
from ._retries import Attempts, Retried
from ._statuses import too_late
from .errors import DataLossError, LimitExceededError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Large:
    """Does in chunks what cannot be done in messages.

    `translated` is around what uses the channel; `retried` makes an attempt, again and again until its time
    is over; `seconds` is how many there are for a timeout, None being the store's own.
    """

    def __init__(
        self,
        target: str,
        stub: Any,
        translated: Callable[[], AbstractContextManager[None]],
        retried: Retried,
        seconds: Callable[[float | None], float],
        *,
        compress: bool,
    ) -> None:
        self._target = target
        self._stub = stub
        self._translated = translated
        self._retried = retried
        self._seconds = seconds
        self._compress = compress
        # How values may be compressed that are answered.
        self.accepted = pb.COMPRESSION_ZSTD if compress else pb.COMPRESSION_UNSPECIFIED
        # Whether the service understands what is compressed; None until it has been asked.
        self._understood: bool | None = None

    def set_value(
        self,
        request: pb.SetValueRequest,
        timeout: float | None,
        in_message: Callable[[pb.SetValueRequest], pb.SetValueResponse],
    ) -> pb.SetValueResponse | pb.WriteValueResponse:
        """Returns the answer of `in_message`, or, if the value is too large for that, of WriteValue.

        `in_message` is given what is to be sent.
        """
        if not _chunks.is_large(request):
            try:
                return in_message(self.wire(request, timeout))
            except LimitExceededError as error:
                if not _chunks.needs_chunks(error):
                    raise
        return self._write(request, timeout)

    def accept(self, request: pb.GetValueRequest | pb.ReadValueRequest | pb.AllKeysRequest) -> None:
        """Tells the service in a request how the answer may be compressed."""
        if self.accepted:
            request.accept = self.accepted

    def wire(self, request: pb.SetValueRequest, timeout: float | None) -> pb.SetValueRequest:
        """Returns what is to be sent of a write that fits in a message."""
        if not self._compress or not _compression.pays(request.ByteSize()):
            return request
        if not self._compresses(timeout):
            return request
        smaller = pb.SetValueRequest()
        smaller.CopyFrom(request)
        smaller.value.CopyFrom(_compression.compressed(request.value))
        return smaller

    def read(self, request: pb.GetValueRequest, timeout: float | None) -> pb.GetValueResponse:
        """Calls ReadValue. Without a timeout each part may take as long as another call."""
        left = Attempts(self._seconds(timeout), since_failure=timeout is None)
        wanted = pb.ReadValueRequest(domain=request.domain, key=request.key)
        self.accept(wanted)

        def attempt() -> pb.GetValueResponse:
            incoming = _chunks.Incoming()
            with self._translated():
                call = self._stub.ReadValue(wanted, timeout=None if timeout is None else left.left())
                try:
                    for part in patiently(call, self._seconds(None)) if timeout is None else call:
                        incoming.add(part)
                except TimeoutError:
                    raise too_late(self._target) from None
                finally:
                    call.cancel()
            return incoming.answer()

        return self._retried(left, attempt)

    def pages(
        self, request: pb.AllKeysRequest, pages: Iterator[pb.AllKeysResponse]
    ) -> Iterator[pb.AllKeysResponse]:
        """Yields the pages, and then what they name as too large for them, in pages like theirs."""
        large_keys: list[str] = []
        revision = 0
        for page in pages:
            large_keys += page.large_keys
            revision = page.domain_revision
            yield page
        # Only now, so that the service need not hold the listing all the while.
        # Each once, also if the listing had to begin again.
        for key in dict.fromkeys(large_keys):
            try:
                answer = self.read(pb.GetValueRequest(domain=request.domain, key=key), None)
            except DataLossError:
                yield pb.AllKeysResponse(domain_revision=revision, unreadable_keys=[key])
                continue
            if answer.found:
                yield pb.AllKeysResponse(domain_revision=revision, entries=[answer.entry])

    def _compresses(self, timeout: float | None) -> bool:
        if self._compress and self._understood is None:
            left = Attempts(self._seconds(timeout))

            def attempt() -> pb.GetServerInfoResponse:
                with self._translated():
                    info: pb.GetServerInfoResponse = self._stub.GetServerInfo(
                        pb.GetServerInfoRequest(), timeout=left.left()
                    )
                return info

            info = self._retried(left, attempt)
            self._understood = pb.COMPRESSION_ZSTD in info.compressions
        return self._compress and bool(self._understood)

    def _write(self, request: pb.SetValueRequest, timeout: float | None) -> pb.WriteValueResponse:
        compress = self._compresses(timeout)
        outgoing = _chunks.Outgoing(request, compress=compress)
        left = _chunks.upload(timeout, self._seconds(None), outgoing.size)

        def attempt() -> pb.WriteValueResponse:
            with self._translated():
                call = self._stub.WriteValue.future(outgoing.parts(), timeout=left.left())
                try:
                    response: pb.WriteValueResponse = call.result()
                finally:
                    # An interrupt must not leave it to go on by itself.
                    call.cancel()
                return response

        return self._retried(left, attempt)
