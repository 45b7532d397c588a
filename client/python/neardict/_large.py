"""Reads and writes, synchronously, values that do not fit in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _chunks, _compression, _replies
from ._pages import Page, Pages
from ._retries import Attempts, Retried
from .errors import (
    ClosedError,
    DataLossError,
    DeadlineExceededError,
    LimitExceededError,
    NeardictError,
    UnavailableError,
)
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from ._call_threads import CallThreads


class Large:
    """Does in chunks what cannot be done in messages.

    `describe` asks the service once what it is. `translated` is around what uses the channel. `retried` makes
    an attempt, again and again until its time is over. `seconds` is how many there are for a timeout, None
    being the store's own.
    """

    def __init__(
        self,
        target: str,
        stub: Any,
        calls: CallThreads,
        describe: Callable[[float], pb.GetServerInfoResponse],
        translated: Callable[[], AbstractContextManager[None]],
        retried: Retried,
        seconds: Callable[[float | None], float],
        *,
        compress: bool,
    ) -> None:
        self._target = target
        self._stub = stub
        self._calls = calls
        self._describe = describe
        self._translated = translated
        self._retried = retried
        self._seconds = seconds
        self._compress = compress
        # How values may be compressed that are answered.
        self.accepted = pb.COMPRESSION_ZSTD if compress else pb.COMPRESSION_UNSPECIFIED
        # Whether the service understands what is compressed; None until it has been asked.
        self._understood: bool | None = None
        self._bounds = _replies.Bounds()

    def set_value(
        self,
        request: pb.SetValueRequest,
        timeout: float | None,
        in_message: Callable[[pb.SetValueRequest, float], pb.SetValueResponse],
    ) -> pb.SetValueResponse | pb.WriteValueResponse:
        """Returns the answer of `in_message`, or, if the value is too large for that, of WriteValue.

        `in_message` is given what is to be sent, and the seconds that it may take.
        """
        left = Attempts(self._seconds(timeout))
        if not _chunks.is_large(request):
            try:
                return in_message(self.wire(request, left.left()), left.left())
            except LimitExceededError as error:
                if not _chunks.needs_chunks(error):
                    raise
        return self._write(request, None if timeout is None else left.left())

    def accept(self, request: pb.GetValueRequest | pb.ReadValueRequest | pb.AllKeysRequest) -> None:
        """Tells the service in a request how the answer may be compressed."""
        if self.accepted:
            request.accept = self.accepted

    def wire(self, request: pb.SetValueRequest, seconds: float) -> pb.SetValueRequest:
        """Returns what is to be sent of a write that fits in a message, within these seconds."""
        if not self._compress or not _compression.pays(request.ByteSize()):
            return request
        if not self._compresses(seconds):
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
            incoming = _chunks.Incoming(self._target, request.key, self.accepted)
            seconds = None if timeout is None else left.left()
            idle = self._seconds(None) if timeout is None else None
            with (
                self._translated(),
                self._calls.stream(
                    lambda: self._stub.ReadValue(wanted, timeout=seconds), idle=idle, seconds=seconds
                ) as parts,
            ):
                for part in parts:
                    incoming.add(part)
                    within = self._seconds(None) if timeout is None else left.left()
                    self._hold(self._bounds.value_problem, incoming.size(), within)
            return incoming.answer()

        return self._retried(left, attempt)

    def pages(
        self,
        request: pb.AllKeysRequest,
        listing: Pages,
        pages: Iterator[pb.AllKeysResponse],
        timeout: float | None,
    ) -> Iterator[Page]:
        """Yields the pages, and then what they name as too large for them, in pages like theirs.

        With a timeout all of it may take so long; without, each part may take as long as another call.
        """
        left = Attempts(self._seconds(timeout))
        large_keys: list[str] = []
        revision = 0
        for message in pages:
            page = listing.read(message)
            if request.accept:
                self.hold(page.values, self._seconds(None) if timeout is None else left.left())
            large_keys += page.large_keys
            revision = page.domain_revision
            yield page
        # Only now, so that the service need not hold the listing all the while.
        # Each once, also if the listing had to begin again.
        for key in dict.fromkeys(large_keys):
            try:
                wanted = pb.GetValueRequest(domain=request.domain, key=key)
                answer = self.read(wanted, None if timeout is None else left.left())
            except (DataLossError, _replies.TooLargeError):
                yield Page(revision, unreadable_keys=[key])
                continue
            if answer.found:
                yield Page(revision, entries=[answer.entry])

    def hold(self, values: Iterable[pb.Value], seconds: float) -> None:
        """Raises TooLargeError if what came compressed in one message is more than a message may hold.

        To ask the service about it may take so many seconds.
        """
        self._hold(self._bounds.message_problem, _replies.content_size(values), seconds)

    def _hold(self, problem: Callable[[int], str], size: int, seconds: float) -> None:
        """Raises TooLargeError if the size is a problem, by what the service says now of its limits."""
        if problem(size):
            try:
                info = self._info(seconds)
            except (UnavailableError, DeadlineExceededError, ClosedError):
                raise  # they say nothing of its limits
            except NeardictError:
                self._bounds.learn(None)
            else:
                self._bounds.learn(info.limits)
            if what := problem(size):
                raise _replies.TooLargeError(f"protocol error: {self._target} {what}")

    def _compresses(self, seconds: float) -> bool:
        if self._compress and self._understood is None:
            self._understood = pb.COMPRESSION_ZSTD in self._info(seconds).compressions
        return self._compress and bool(self._understood)

    def _info(self, seconds: float) -> pb.GetServerInfoResponse:
        left = Attempts(seconds)
        return self._retried(left, lambda: self._describe(left.left()))

    def _write(self, request: pb.SetValueRequest, timeout: float | None) -> pb.WriteValueResponse:
        left = Attempts(self._seconds(timeout))
        compress = self._compresses(left.left())
        outgoing = _chunks.Outgoing(request, compress=compress)
        if timeout is None:
            left = _chunks.upload(self._seconds(None), outgoing.size)

        def attempt() -> pb.WriteValueResponse:
            response: pb.WriteValueResponse = self._unary(
                "WriteValue", lambda: outgoing.parts(left.sent), left.left()
            )
            return _replies.checked(response, _replies.written_problem, self._target)

        return self._retried(left, attempt)

    def _unary(self, name: str, request: Callable[[], Any], seconds: float) -> Any:
        """Calls the RPC; an interrupt does not leave it to go on by itself."""
        with self._translated():
            return self._calls.unary(
                lambda: getattr(self._stub, name).future(request(), timeout=seconds), seconds
            ).result()
