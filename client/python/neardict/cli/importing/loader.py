"""Brings found entries into the service, so that it can be stopped at any moment and begun again.

What is there already decides, not a note of what was done: an entry is written if its key is absent, and
an equal one that is there counts as done. So whatever was written meanwhile by others stays.
"""

import time
from collections.abc import Callable, Iterable

from ... import _requests
from ...errors import (
    BulkError,
    ClosedError,
    ConflictError,
    DeadlineExceededError,
    LimitExceededError,
    NeardictError,
    PermissionDeniedError,
    UnavailableError,
)
from ...server_info import Limits
from ...store import Store
from ...v1 import storage_pb2 as pb
from .. import json_text
from .found import Found, Ignored, Piece, Refused
from .report import Outcome, Report

# A batch is written at once, and held in memory.
_BATCH_ENTRIES = 256
_BATCH_BYTES = 8 * 1024 * 1024


class Loader:
    """Loads what it is given, in batches of one domain; `advance` is told of each piece."""

    def __init__(
        self,
        store: Store,
        report: Report,
        limits: Limits,
        *,
        overwrite: bool,
        dry_run: bool,
        advance: Callable[[int], None],
    ) -> None:
        self._store = store
        self._report = report
        self._limits = limits
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._advance = advance
        self._batch: dict[str, Found] = {}
        self._domain = ""
        self._bytes = 0
        # Whether it is worth asking what is there before writing.
        self._look_first = overwrite or dry_run

    def load(self, pieces: Iterable[Piece]) -> None:
        """Loads everything. Raises NeardictError if it makes no sense to go on; nothing is lost by that."""
        for piece in pieces:
            if isinstance(piece, Refused):
                self._refuse(piece.origin, piece.reason)
            elif isinstance(piece, Ignored):
                self._report.add(Outcome.IGNORED, piece.origin, reason=piece.reason)
                self._advance(1)
            elif _time_left(piece) == 0:
                self._done(Outcome.IGNORED, piece, "has expired")
            elif problem := self._problem(piece):
                self._refuse(piece.origin, problem, piece)
            else:
                self._take(piece)
        self._settle()

    def _problem(self, found: Found) -> str:
        """Returns why the service would refuse the value, '' if it would not: a dry run must know, too."""
        if found.value.WhichOneof("kind") == "raw":
            size, depth = len(found.value.raw), 0
        else:
            size, depth = len(found.value.json.encode()), json_text.depth(found.value.json)
        # A limit that is not given, as 0 says, is left to the service.
        if 0 < self._limits.max_value_bytes < size:
            return (
                f"has a value of {size} bytes, more than the service takes ({self._limits.max_value_bytes})"
            )
        if 0 < self._limits.max_json_depth < depth:
            return f"nests arrays and objects deeper than the service takes ({self._limits.max_json_depth})"
        return ""

    def _take(self, found: Found) -> None:
        size = found.value.ByteSize()
        if (
            found.domain != self._domain
            or found.key in self._batch
            or len(self._batch) == _BATCH_ENTRIES
            or self._bytes + size > _BATCH_BYTES
        ):
            self._settle()
        self._domain = found.domain
        self._batch[found.key] = found
        self._bytes += size

    def _settle(self) -> None:
        """Makes the batch true in the service."""
        batch, self._batch, self._bytes = self._batch, {}, 0
        missing = batch
        if self._look_first:
            missing = self._compare(batch, replace=self._overwrite)
        there = len(batch) - len(missing)
        if self._dry_run:
            for found in missing.values():
                self._done(Outcome.IMPORTED, found)
        else:
            conflicts = self._write(missing)
            there += len(conflicts)
            for found in self._compare(conflicts, replace=False).values():
                self._done(Outcome.KEPT, found, "was there, and has been deleted meanwhile by somebody else")
        if batch and not (self._overwrite or self._dry_run):
            # One who resumes finds mostly what he has brought before, and then again.
            self._look_first = 2 * there > len(batch)

    def _compare(self, batch: dict[str, Found], *, replace: bool) -> dict[str, Found]:
        """Settles those that are there, and returns those that are to be written."""
        missing: dict[str, Found] = {}
        for key, response in self._look_up(batch).items():
            found = batch[key]
            if response.found and _equal(response.entry.value, found.value):
                self._done(Outcome.PRESENT, found)
            elif response.found and not replace:
                self._done(Outcome.KEPT, found, "has another value in the service; --overwrite replaces it")
            else:
                missing[key] = found
        return missing

    def _look_up(self, batch: dict[str, Found]) -> dict[str, pb.GetValueResponse]:
        if not batch:
            return {}
        try:
            return self._store.lookup_many(self._domain, batch)
        except BulkError as error:
            self._refuse_failed(error, batch)
            return self._look_up({key: found for key, found in batch.items() if key not in error.failures})

    def _write(self, batch: dict[str, Found]) -> dict[str, Found]:
        """Writes those whose keys are absent, or all to overwrite, and returns those that are there."""
        requests = {}
        for key, found in batch.items():
            left = _time_left(found)
            requests[key] = _requests.set_value(
                found.domain,
                key,
                found.value,
                ttl=None if left is None else max(left, 1e-6),
                if_absent=not self._overwrite,
            )
        try:
            self._store.write_many(
                self._domain, requests, written=lambda key, _: self._done(Outcome.IMPORTED, batch[key])
            )
        except BulkError as error:
            conflicts = {key for key, why in error.failures.items() if isinstance(why, ConflictError)}
            self._refuse_failed(error, {key: batch[key] for key in error.failures if key not in conflicts})
            return {key: batch[key] for key in conflicts}
        return {}

    def _refuse_failed(self, error: BulkError, batch: dict[str, Found]) -> None:
        """Refuses what the service refused. Raises the first failure that would befall all others as well."""
        for key, why in error.failures.items():
            if key in batch and _ends_all(why):
                raise why
        for key, why in error.failures.items():
            if key in batch:
                self._refuse(batch[key].origin, f"is refused by the service: {why}", batch[key])

    def _refuse(self, origin: str, reason: str, found: Found | None = None) -> None:
        if found is None:
            self._report.add(Outcome.REFUSED, origin, reason=reason)
        else:
            self._report.add(Outcome.REFUSED, origin, reason=reason, domain=found.domain, key=found.key)
        self._advance(1)

    def _done(self, outcome: Outcome, found: Found, reason: str = "") -> None:
        self._report.add(
            outcome,
            found.origin,
            reason=reason,
            conversion=found.conversion,
            domain=found.domain,
            key=found.key,
        )
        self._advance(1)


def _time_left(found: Found) -> float | None:
    """Returns the seconds until the entry expires, 0 if it has expired, None if it never does."""
    if found.expire_time is None:
        return None
    return max(0, found.expire_time.ToNanoseconds() / 1e9 - time.time())


def _ends_all(error: NeardictError) -> bool:
    if isinstance(error, LimitExceededError):
        return error.reason == "STORAGE_FULL"
    return isinstance(error, (UnavailableError, DeadlineExceededError, PermissionDeniedError, ClosedError))


def _equal(one: pb.Value, other: pb.Value) -> bool:
    kind = one.WhichOneof("kind")
    if kind != other.WhichOneof("kind"):
        return False
    return json_text.same(one.json, other.json) if kind == "json" else one.raw == other.raw
