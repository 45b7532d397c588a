"""Gives a database of four methods the part of a Store's interface that a dict uses.

Values are not encoded: in place of the contract's messages go tuples with the same fields, which hold the
very objects that the database takes and returns. Revisions are made here, so that the rules by which a
dict keeps its order hold here too.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from .._changes import Change, Changes
from .._channel import DEFAULT_TIMEOUT
from .._requests import Written
from ..entry import Entry
from ..errors import BulkError, ConflictError, NeardictError
from ..v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .._changes import Listener

# A database is of one domain, and its dict need not know which.
DOMAIN = ""


class Write(NamedTuple):
    """As SetValueRequest."""

    key: str
    value: Any
    if_revision: int = 0
    if_absent: bool = False
    keep_ttl: bool = False


class Kept(NamedTuple):
    """As Entry."""

    key: str
    value: Any
    revision: int

    def HasField(self, name: str) -> bool:  # noqa: N802  # as protobuf has it
        """Returns whether the entry has an optional field, such as an expire_time: never."""
        return False


class Found(NamedTuple):
    """As GetValueResponse."""

    found: bool
    entry: Kept | None
    domain_revision: int


class Removed(NamedTuple):
    """As DeleteKeyResponse."""

    existed: bool
    revision: int


class Page(NamedTuple):
    """As neardict._pages.Page."""

    domain_revision: int
    keys: tuple[str, ...] = ()
    entries: tuple[Kept, ...] = ()
    unreadable_keys: tuple[str, ...] = ()
    total_keys: int = 0

    @property
    def names(self) -> list[str]:
        return [entry.key for entry in self.entries]

    @property
    def revisions(self) -> list[int]:
        return [entry.revision for entry in self.entries]

    @property
    def values(self) -> list[Any]:
        return [entry.value for entry in self.entries]


class LocalStore:
    """One dict over one database. Thread-safe also if the database is not: it gets one call at a time.

    What the database raises is passed on; where it answers False to a write, NeardictError is raised.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.changes = Changes()
        self.patience, self.accepted = DEFAULT_TIMEOUT, pb.COMPRESSION_UNSPECIFIED
        # Held while the database works. Reentrant, since the database may use the dict.
        self._lock = threading.RLock()
        self._revision = 0
        # The revision of the last write of each key, to check conditions by.
        self._written: dict[str, int] = {}

    def lookup(self, domain: str, key: str) -> Found:
        with self._lock:
            found, value = self._database.get_value(key)
            # A revision of its own, since the database may have changed behind our back.
            revision = self._next()
            return Found(found, Kept(key, value, revision) if found else None, revision)

    def watch(self, domain: str) -> None:
        """Nobody else is known to write here, so there is nothing to watch."""

    def reload(self, cache: object) -> bool:
        """What a mirror lacks is read when it is used: the database is called for its user alone."""
        return False

    def lookup_many(self, domain: str, keys: Iterable[str]) -> dict[str, Found]:
        return {key: self.lookup(domain, key) for key in keys}

    def get_entry(self, domain: str, key: str) -> Entry | None:
        entry = self.lookup(domain, key).entry
        return None if entry is None else Entry(key, copy.deepcopy(entry.value), entry.revision)

    def write(self, request: Write, *, by: Listener | None = None) -> Written:
        key = request.key
        with self.changes.writing(DOMAIN, key), self._lock:
            if request.if_absent and self._database.get_value(key)[0]:
                raise ConflictError(f"{key!r} exists already", current_revision=self._revision)
            self._check_unwritten(key, request.if_revision)
            if request.keep_ttl and not self._database.get_value(key)[0]:
                raise ConflictError(f"{key!r} does not exist", current_revision=0)
            stored, message = self._database.set_value(key, request.value)
            if not stored:
                raise NeardictError(f"the database did not store {key!r}: {message}")
            self._written[key] = self._next()
            return Written(self._revision)

    def write_many(
        self,
        domain: str,
        requests: Mapping[str, Write],
        *,
        by: Listener | None = None,
        written: Callable[[str, Written], None],
    ) -> None:
        failures: dict[str, NeardictError] = {}
        for key, request in requests.items():
            try:
                with self.changes.writing(DOMAIN, key):
                    written(key, self.write(request))
            except NeardictError as error:
                failures[key] = error
        if failures:
            raise BulkError(failures, len(requests))

    def remove(self, request: pb.DeleteKeyRequest, *, by: Listener | None = None) -> Removed:
        key = request.key
        with self.changes.writing(DOMAIN, key), self._lock:
            self._check_unwritten(key, request.if_revision)
            # Asked first, since databases differ in what they do about an absent key: some raise.
            existed, _ = self._database.get_value(key)
            if existed:
                deleted, message = self._database.delete_key(key)
                if not deleted:
                    raise NeardictError(f"the database did not delete {key!r}: {message}")
                self._written[key] = self._next()
            return Removed(existed, self._revision)

    def delete_many(self, domain: str, keys: Iterable[str]) -> int:
        failures: dict[str, NeardictError] = {}
        deleted = total = 0
        for key in keys:
            total += 1
            try:
                with self.changes.writing(DOMAIN, key):
                    removed = self.remove(pb.DeleteKeyRequest(key=key))
                    self.changes.publish(DOMAIN, Change(key, removed.revision, None))
            except NeardictError as error:
                failures[key] = error
            else:
                deleted += removed.existed
        if failures:
            raise BulkError(failures, total)
        return deleted

    def all_keys(self, domain: str) -> Iterator[str]:
        with self._lock:
            return iter(list(self._database.all_keys()))

    def pages(
        self, request: pb.AllKeysRequest, *, restart: Callable[[], None] | None = None
    ) -> Iterator[Page]:
        begun = self._revision
        if not request.include_entries:
            yield Page(begun, keys=tuple(self.all_keys(DOMAIN)))
            return
        yield Page(begun)
        for key in self.all_keys(DOMAIN):
            try:
                entry = self.lookup(DOMAIN, key).entry
            except (ValueError, TypeError):
                # What decoding raises: this entry is damaged. Whatever else it raises, the database is.
                yield Page(begun, unreadable_keys=(key,))
            else:
                if entry is not None:
                    yield Page(begun, entries=(entry,))

    def _next(self) -> int:
        self._revision += 1
        return self._revision

    def _check_unwritten(self, key: str, revision: int) -> None:
        """Refuses a condition on a revision, unless 0, after which the key was written."""
        current = self._written.get(key, 0)
        if revision and current > revision:
            raise ConflictError(f"{key!r} was written meanwhile", current_revision=current)
