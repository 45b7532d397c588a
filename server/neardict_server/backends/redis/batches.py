"""Operations on a domain, and what became of them, in the words of the scripts."""

from collections.abc import Sequence

from redis.exceptions import ResponseError

from ...errors import ConditionFailedError, CorruptEntryError
from .. import base
from ..request_ids import WINDOW, parts_of, reused
from .errors import translate
from .layout import Places, corrupt, corrupt_revision, entry_of, revision_of, time_of
from .operations import OPERATIONS_AT, SWEPT_PER_WRITE
from .scripts import SWEPT_PER_LOOK

# A script that has read so much stops, and leaves the rest to the next, for others wait meanwhile.
MOST_BYTES = 1024 * 1024

# Payloads above this are arguments of their own, so that they are copied less often.
LARGE_BYTES = 4096
Argument = str | bytes | int


def executing(places: Places, operations: Sequence[base.Operation]) -> tuple[list[bytes], list[Argument]]:
    """Returns KEYS and ARGV of EXECUTE for the operations, without those that announce."""
    words: list[bytes] = []
    large: list[bytes] = []
    # Which of the KEYS behind those of the domain has the results of requests whose ids begin so.
    requests: dict[str, int] = {}
    for operation in operations:
        key = operation.key.encode()
        if isinstance(operation, base.Get):
            words += (b"get     0 %d 0\n" % len(key), key)
            continue
        condition = b"" if operation.condition is None else b"%d" % operation.condition
        request, field = b"", b""
        if operation.request_id:
            stem, last = parts_of(operation.request_id)
            request, field = b"%d" % requests.setdefault(stem, len(requests) + 1), last.encode()
        if isinstance(operation, base.Delete):
            words += (
                b"delete %b %b   %d %d 0\n" % (condition, request, len(field), len(key)),
                field,
                key,
            )
            continue
        _, value, ttl, _, _ = operation
        kind, payload = (b"json", value.encode()) if isinstance(value, str) else (b"raw", value)
        size = b"%d" % len(payload)
        if len(payload) > LARGE_BYTES:
            large.append(payload)
            size, payload = b"=%d" % (OPERATIONS_AT + len(large)), b""
        until = b"" if ttl is None else b"keep" if ttl is base.KEEP else b"%d" % ttl
        words += (
            b"set %b %b %b %b %d %d %b\n" % (condition, request, until, kind, len(field), len(key), size),
            field,
            key,
            payload,
        )
    swept = min(SWEPT_PER_WRITE * len(operations), SWEPT_PER_LOOK)
    keys = [*places, *(places.entries + b":requests:" + stem.encode() for stem in requests)]
    return keys, [WINDOW // 1000, swept, MOST_BYTES, b"".join(words), *large]


def executed(
    operations: Sequence[base.Operation], reply: bytes | list[bytes], backend: str = ""
) -> list[base.Outcome]:
    """Returns the outcomes of the operations, or of the first of them, from the reply of EXECUTE.

    Errors name the backend.
    """
    if isinstance(reply, bytes):
        return [corrupt_revision() for _ in operations]
    seconds, microseconds, lines, found = reply
    now = time_of(seconds, microseconds)
    outcomes: list[base.Outcome] = []
    at = 0
    # Not strict: those that are left are for the next script.
    for operation, line in zip(operations, lines.split(b"\n"), strict=False):
        word, _, rest = line.partition(b" ")
        if word == b"found":
            revision, _, size = rest.partition(b" ")
            end = at if size == b"-" else at + int(size)
            stored = None if size == b"-" else found[at:end]
            outcomes.append(_lookup(operation.key, stored, int(revision), now))
            at = end
        elif word == b"done":
            revision, _, fact = rest.partition(b" ")
            if isinstance(operation, base.Set):
                outcomes.append(base.Written(int(revision), int(fact) or None))
            else:
                outcomes.append(base.Deleted(fact == b"1", int(revision)))
        else:
            outcomes.append(_failure(operation, word, rest, backend))
    return outcomes


def reading(keys: Sequence[str]) -> list[Argument]:
    """Returns ARGV of READ for the keys."""
    encoded = [key.encode() for key in keys]
    return [MOST_BYTES, " ".join([str(len(key)) for key in encoded]), b"".join(encoded)]


def found(keys: Sequence[str], reply: list[bytes | None]) -> list[base.Outcome]:
    """Returns what was found under the keys, or under the first of them, from the reply of READ."""
    stored_revision, *rest = reply
    seconds, microseconds, sizes, entries = (part or b"" for part in rest)
    try:
        revision = revision_of(stored_revision)
    except CorruptEntryError as error:
        return [error for _ in keys]
    now = time_of(seconds, microseconds)
    outcomes: list[base.Outcome] = []
    at = 0
    for key, size in zip(keys, sizes.split(b" "), strict=False):
        if size == b"-":
            outcomes.append(base.Lookup(None, revision))
            continue
        end = at + int(size)
        outcomes.append(_lookup(key, entries[at:end], revision, now))
        at = end
    return outcomes


def _lookup(key: str, stored: bytes | None, revision: int, now: int) -> base.Outcome:
    try:
        return base.Lookup(None if stored is None else entry_of(key, stored, now), revision)
    except CorruptEntryError as error:
        return error


def _failure(operation: base.Operation, word: bytes, rest: bytes, backend: str) -> Exception:
    if word == b"condition":
        return ConditionFailedError(int(rest))
    if word == b"reused" and not isinstance(operation, base.Get):
        return reused(operation.request_id)
    if word == b"corrupt":
        return corrupt(operation.key)
    return translate(ResponseError(rest.decode(errors="replace")), backend)
