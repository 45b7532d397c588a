"""How a domain is kept in Redis: the names that belong to it, and the text of an entry."""

import re
from typing import NamedTuple

import orjson

from ...errors import CorruptEntryError
from .. import base

# The text before the payload: revision, expiry time or 0, kind.
_HEADER = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16}) (json|raw) ")
_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


class Places(NamedTuple):
    """The names in Redis of what belongs to a domain; its hash tag keeps them on one node of a Cluster."""

    # Hash: key -> "REVISION EXPIRES json|raw PAYLOAD".
    entries: bytes
    # The domain's last revision.
    revision: bytes
    # Sorted set of the keys, all of score 0, so that it is in the order of their bytes.
    keys: bytes
    # Sorted set of those keys that expire, by when.
    expiries: bytes
    # Stream of the latest changes, each under its revision.
    log: bytes


def places_of(prefix: str, domain: str) -> Places:
    # The tag is the whole domain and nothing else, whatever braces the domain holds.
    stem = f"{prefix}:{{{domain.translate(_ESCAPES)}}}".encode()
    return Places(stem, stem + b":revision", stem + b":keys", stem + b":expiries", stem + b":changes")


def channel_of(prefix: str) -> str:
    """Returns where each change is announced, as "REVISION DOMAIN"."""
    return f"{prefix}:changes"


def time_of(seconds: bytes, microseconds: bytes) -> int:
    """Returns microseconds since the epoch from a reply to TIME."""
    return int(seconds) * 1_000_000 + int(microseconds)


def revision_of(stored: bytes | None) -> int:
    """Returns the domain's last revision, 0 if it has none."""
    try:
        return int(stored or 0)
    except ValueError:
        raise corrupt_revision() from None


def entries_of(found: list[bytes], now: int) -> list[base.Entry]:
    """Returns the entries of a page, which has keys and stored texts in turn, without expired ones."""
    read = (entry_of(text_of(key), stored, now) for key, stored in zip(found[::2], found[1::2], strict=True))
    return [entry for entry in read if entry is not None]


def entry_of(key: str, stored: bytes, now: int) -> base.Entry | None:
    """Returns the entry, or None if it has expired. Raises CorruptEntryError if it makes no sense."""
    header = _HEADER.match(stored)
    if header is None:
        raise corrupt(key)
    revision, expires = int(header[1]), int(header[2])
    if expires and expires <= now:
        return None
    payload = stored[header.end() :]
    if header[3] == b"raw":
        return base.Entry(key, payload, revision, expires or None)
    try:
        # Other programs may write here too, and what they break should not reach every reader.
        orjson.loads(payload)
        return base.Entry(key, payload.decode(), revision, expires or None)
    except ValueError:
        raise corrupt(key) from None


def text_of(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise CorruptEntryError("a key of this domain is no UTF-8 in Redis: remove what wrote it") from None


def corrupt(key: str) -> CorruptEntryError:
    return CorruptEntryError(
        f"the entry of key {key[:64]!r} makes no sense in Redis: write or delete the key, or mend the field "
        "(docs/redis.md shows its form)"
    )


def corrupt_revision() -> CorruptEntryError:
    return CorruptEntryError(
        "the last revision of this domain is no number in Redis: write one there that is not below any "
        "that was given out, or delete it"
    )
