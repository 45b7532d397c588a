"""Keeps entries in Redis or Valkey: shared by several services, as durable as Redis is set to be.

Each write is one script, and so one atom: condition, request id, revision, value, index and expiry.
Time is Redis' own, since services that share the data need not agree on theirs. docs/redis.md states
the layout and why it is so.
"""

import logging
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Self

import orjson

from ..errors import ConditionFailedError, CorruptEntryError, StorageError
from . import base
from .redis_client import RedisClient, RedisSettings
from .redis_errors import RefusedError
from .redis_scripts import PAGE, READ, WRITE
from .request_ids import WINDOW, reused

logger = logging.getLogger(__name__)

# At most so many keys are looked at in one script, which keeps Redis from others for about a millisecond.
PAGE_KEYS = 1024

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


class RedisBackend:
    """One Redis that stands alone. It may be down, at the start too: operations say so until it is up."""

    Settings = RedisSettings

    capabilities: frozenset[base.Capability] = frozenset(
        {base.Capability.TTL, base.Capability.DURABLE_REQUEST_ID, base.Capability.SHARED}
    )

    @classmethod
    async def open(cls, settings: RedisSettings, surroundings: base.Surroundings) -> Self:
        backend = cls(settings)
        try:
            await backend.get_value("neardict", "probe")
        except RefusedError as error:
            await backend.close()
            raise ValueError(f"redis at {backend._client.address}: {error}") from None
        except StorageError:
            # It is in the log. Redis may come up after us, as when a machine boots.
            pass
        except BaseException:
            await backend.close()
            raise
        return backend

    def __init__(self, settings: RedisSettings) -> None:
        self._client = RedisClient(settings)
        self._prefix = settings.key_prefix

    async def get_value(self, domain: str, key: str) -> base.Lookup:
        revision, stored, seconds, microseconds = await self._client.run(READ, [*self._places(domain)], key)
        entry = None if stored is None else _entry(key, stored, _time(seconds, microseconds))
        return base.Lookup(entry, _revision(revision))

    async def set_value(
        self,
        domain: str,
        key: str,
        value: base.Value,
        *,
        ttl: int | None = None,
        condition: base.Condition = None,
        request_id: str = "",
    ) -> base.Written:
        kind = "json" if isinstance(value, str) else "raw"
        data = ("" if ttl is None else ttl, kind, value)
        revision, expires = await self._write("set", domain, key, condition, request_id, *data)
        return base.Written(revision, expires or None)

    async def delete_key(
        self, domain: str, key: str, *, condition: base.Condition = None, request_id: str = ""
    ) -> base.Deleted:
        revision, existed = await self._write("delete", domain, key, condition, request_id)
        return base.Deleted(bool(existed), revision)

    async def all_keys(
        self, domain: str, *, prefix: str = "", entries: bool = False
    ) -> AsyncIterator[base.Page]:
        # In the order of the keys' bytes, each page after the last key of the one before: a key that
        # stays is met exactly once, whatever is written meanwhile. No byte of UTF-8 is 0xff.
        start, end = b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff"
        places = [*self._places(domain)]
        what = "entries" if entries else "keys"
        began: int | None = None
        last: bytes | None = b""
        while last is not None:
            revision, seconds, microseconds, last, found = await self._client.run(
                PAGE, places, start, end, PAGE_KEYS, base.PAGE_BYTES, what
            )
            first, began = began is None, _revision(revision) if began is None else began
            if entries:
                page = base.Page(began, entries=_entries(found, _time(seconds, microseconds)))
            else:
                page = base.Page(began, keys=[_text(key) for key in found])
            if first or page.keys or page.entries:
                yield page
            start = b"(" + (last or b"")

    async def close(self) -> None:
        await self._client.close()

    def _places(self, domain: str) -> Places:
        # The tag is the whole domain and nothing else, whatever braces the domain holds.
        stem = f"{self._prefix}:{{{domain.translate(_ESCAPES)}}}".encode()
        return Places(stem, stem + b":revision", stem + b":keys", stem + b":expiries")

    async def _write(
        self,
        operation: str,
        domain: str,
        key: str,
        condition: base.Condition,
        request_id: str,
        *data: Any,
    ) -> tuple[int, int]:
        """Returns the revision, and the expiry time of a set, or whether a deleted entry existed."""
        places = self._places(domain)
        keys = [*places]
        if request_id:
            keys.append(places.entries + b":request:" + request_id.encode())
        reply: bytes = await self._client.run(
            WRITE, keys, operation, key, "" if condition is None else condition, WINDOW // 1000, *data
        )
        outcome, _, rest = reply.partition(b" ")
        if outcome == b"condition":
            raise ConditionFailedError(int(rest))
        if outcome == b"corrupt":
            raise _corrupt(key) if rest == b"entry" else _corrupt_revision()
        revision, fact, written = rest.split(b" ", 2)
        # Whose result it is shows whether the request id was used for another write.
        if outcome != operation.encode() or written != key.encode():
            raise reused(request_id)
        return int(revision), int(fact)


def _time(seconds: bytes, microseconds: bytes) -> int:
    return int(seconds) * 1_000_000 + int(microseconds)


def _revision(stored: bytes | None) -> int:
    """Returns the domain's last revision, 0 if it has none."""
    try:
        return int(stored or 0)
    except ValueError:
        raise _corrupt_revision() from None


def _entries(found: list[bytes], now: int) -> list[base.Entry]:
    """Returns the entries of a page, which has keys and stored texts in turn, without expired ones."""
    read = (_entry(_text(key), stored, now) for key, stored in zip(found[::2], found[1::2], strict=True))
    return [entry for entry in read if entry is not None]


def _entry(key: str, stored: bytes, now: int) -> base.Entry | None:
    """Returns the entry, or None if it has expired. Raises CorruptEntryError if it makes no sense."""
    header = _HEADER.match(stored)
    if header is None:
        raise _corrupt(key)
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
        raise _corrupt(key) from None


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise CorruptEntryError("a key of this domain is no UTF-8 in Redis: remove what wrote it") from None


def _corrupt(key: str) -> CorruptEntryError:
    return CorruptEntryError(
        f"the entry of key {key[:64]!r} makes no sense in Redis: write or delete the key, or mend the field "
        "(docs/redis.md shows its form)"
    )


def _corrupt_revision() -> CorruptEntryError:
    return CorruptEntryError(
        "the last revision of this domain is no number in Redis: write one there that is not below any "
        "that was given out, or delete it"
    )
