"""Values that do not fit in a message: what the sync and the async store make of their parts. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from . import _compression, _replies
from ._bulk import HOPELESS
from ._retries import Attempts
from .errors import BulkError, DataLossError, LimitExceededError, NeardictError, UnavailableError
from .v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# What a service takes in a message unless its operator says otherwise. Larger values go in chunks at once,
# smaller ones when it refuses them.
MESSAGE_VALUE_BYTES = 4 * 1024 * 1024 - 64 * 1024
CHUNK_BYTES = 256 * 1024
# With no timeout of its own, a value in chunks has a second more for so many bytes.
_SLOWEST = 1024 * 1024

_Answer = TypeVar("_Answer")


def is_large(request: Any) -> bool:
    """Returns whether the request is a write that does not fit in a message."""
    if not isinstance(request, pb.SetValueRequest):
        return False
    value = request.value
    if value.WhichOneof("kind") == "raw":
        return len(value.raw) > MESSAGE_VALUE_BYTES
    text = value.json
    return 4 * len(text) > MESSAGE_VALUE_BYTES and len(text.encode()) > MESSAGE_VALUE_BYTES


def needs_chunks(error: BaseException | None) -> bool:
    """Returns whether the service has refused a value only since it does not fit in a message."""
    return isinstance(error, LimitExceededError) and error.reason == "VALUE_NEEDS_CHUNKS"


class Outgoing:
    """A write whose value goes in chunks, compressed if it may be and that pays."""

    def __init__(self, request: pb.SetValueRequest, *, compress: bool = False) -> None:
        value = request.value
        raw = value.WhichOneof("kind") == "raw"
        data = value.raw if raw else value.json.encode()
        content_size = 0
        empty = pb.Value(raw=b"") if raw else pb.Value(json="")
        if compress and (frame := _compression.compress(data)) is not None:
            content_size, data = len(data), frame
            empty = pb.Value(raw_zstd=b"") if raw else pb.Value(json_zstd=b"")
        self._data = memoryview(data)
        self.size = len(data)
        head = pb.SetValueRequest(
            domain=request.domain,
            key=request.key,
            value=empty,
            request_id=request.request_id,
        )
        if request.HasField("ttl"):
            head.ttl.CopyFrom(request.ttl)
        head.keep_ttl = request.keep_ttl
        condition = request.WhichOneof("condition")
        if condition is not None:
            setattr(head, condition, getattr(request, condition))
        self._head = pb.WriteValueRequest(
            head=pb.WriteValueHead(request=head, size=self.size, content_size=content_size)
        )

    def parts(self, last: Callable[[], object]) -> Iterator[pb.WriteValueRequest]:
        """Yields the messages, anew each time. `last` is called before the last one."""
        yield self._head
        for start in range(0, self.size, CHUNK_BYTES):
            if start + CHUNK_BYTES >= self.size:
                last()
            yield pb.WriteValueRequest(chunk=bytes(self._data[start : start + CHUNK_BYTES]))


class Incoming:
    """A value that comes in chunks from `target`, as the answer of ReadValue for the key."""

    def __init__(self, target: str, key: str, accept: int) -> None:
        """`accept` is how it may be compressed."""
        self._target = target
        self._key = key
        self._accept = accept
        self._head: pb.ReadValueHead | None = None
        self._data = bytearray()

    def add(self, part: pb.ReadValueResponse | None) -> None:
        """Takes the next part. Raises ServiceError if it is none."""
        which = None if part is None else part.WhichOneof("part")
        problem = "sent a part of a value that is neither its head nor a chunk"
        if part is not None and which == "chunk":
            problem = self._chunk_problem(part.chunk)
            if not problem:
                self._data += part.chunk
        elif part is not None and which == "head":
            problem = self._head_problem(part.head)
            self._head = part.head
        if problem:
            raise _replies.protocol_error(self._target, problem)

    def size(self) -> int:
        """Returns how many bytes the value has, as far as that is known by now: on the wire, or in memory."""
        if self._head is None:
            return 0
        size = self._head.size
        if self._kind() in _compression.KINDS and len(self._data) == size:
            return max(size, _compression.content_size(self._data) or 0)
        return size

    def answer(self) -> pb.GetValueResponse:
        """Returns what GetValue would have answered. Raises UnavailableError if not all has come."""
        if self._head is None:
            raise _replies.protocol_error(self._target, "sent a value without its head")
        if len(self._data) != self._head.size:
            raise UnavailableError("a value in chunks has ended before its end: read it again")
        answer = self._head.answer
        if answer.found:
            kind = self._kind()
            try:
                content = self._data.decode() if kind == "json" else bytes(self._data)
            except UnicodeDecodeError:
                raise DataLossError("a value that came in chunks is not UTF-8, which JSON is") from None
            setattr(answer.entry.value, kind, content)
        return answer

    def _kind(self) -> str:
        return "" if self._head is None else self._head.answer.entry.value.WhichOneof("kind") or ""

    def _head_problem(self, head: pb.ReadValueHead) -> str:
        if self._head is not None:
            return "sent two heads of one value"
        if not head.answer.found and head.size:
            return "sent a value for a key that it does not have"
        return _replies.lookup_problem(head.answer, self._key, self._accept)

    def _chunk_problem(self, chunk: bytes) -> str:
        if self._head is None:
            return "sent a chunk of a value before its head"
        if not chunk:
            return "sent an empty chunk of a value"
        if len(self._data) + len(chunk) > self._head.size:
            return "sent more of a value than its head says"
        return ""


def upload(default: float, size: int) -> Attempts:
    """Returns the attempts of a call that sends `size` bytes, for which no time is given."""
    return Attempts(default + size / _SLOWEST)


class Failures:
    """What has become of a bulk whose large values go one by one."""

    def __init__(self, requests: Mapping[str, Any]) -> None:
        self._requests = requests
        self._failures: dict[str, NeardictError] = {}
        self._hopeless: NeardictError | None = None

    def take(self, error: BulkError) -> None:
        """Takes notice of what failed in messages."""
        for key, failure in error.failures.items():
            self.add(key, failure)

    def add(self, key: str, error: NeardictError) -> None:
        self._failures[key] = error
        if isinstance(error, HOPELESS):
            self._hopeless = error

    def left(self, small: Mapping[str, Any]) -> Iterator[str]:
        """Yields the keys that go in chunks, until that is hopeless."""
        for key in self._requests:
            if key not in small or needs_chunks(self._failures.get(key)):
                if self._hopeless is not None:
                    self._failures[key] = self._hopeless
                else:
                    self._failures.pop(key, None)
                    yield key

    def check(self) -> None:
        """Raises BulkError if some failed."""
        if self._failures:
            raise BulkError(self._failures, len(self._requests))


def small(requests: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those requests that fit in a message."""
    return {key: request for key, request in requests.items() if not is_large(request)}


def each(
    requests: Mapping[str, Any],
    answers: dict[str, _Answer],
    in_messages: Callable[[Mapping[str, Any]], Any],
    in_chunks: Callable[[str], _Answer],
) -> dict[str, _Answer]:
    """Makes all calls, those that fit in messages by `in_messages`, which puts into `answers` what it gets.

    Then the others one by one by `in_chunks`, so that one value at most is in memory twice. Raises BulkError
    as each of them does, for all.
    """
    in_one, failures = small(requests), Failures(requests)
    try:
        in_messages(in_one)
    except BulkError as error:
        failures.take(error)
    for key in failures.left(in_one):
        try:
            answers[key] = in_chunks(key)
        except NeardictError as error:
            failures.add(key, error)
    failures.check()
    return answers
