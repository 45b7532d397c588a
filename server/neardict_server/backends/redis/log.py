"""Reads the log of a domain's changes, which Redis keeps and each write extends."""

from typing import NamedTuple

from ...errors import CorruptEntryError
from .. import base
from .client import RedisClient
from .layout import channel_of, corrupt_revision, entry_of, places_of, text_of
from .revisions import Revisions
from .scripts import FOLLOW

# How many changes are read at once. With their values that is 2 MB at most.
PAGE_CHANGES = 512


class LogPage(NamedTuple):
    """`changes`, in order, are all after the revision that was asked for, up to `reached`.

    They hold the last change of each key. `revision` is the domain's. `expires_in`, in seconds, is when the
    next entry expires.
    """

    revision: int
    reached: int
    more: bool
    expires_in: float | None
    # None if the log does not hold all changes after the revision that was asked for.
    changes: list[base.Change] | None


class RedisLog:
    """The logs of all domains."""

    def __init__(self, client: RedisClient, prefix: str, revisions: Revisions) -> None:
        self._client = client
        self._prefix = prefix
        self._revisions = revisions

    async def read(self, domain: str, since: int | None) -> LogPage:
        """Returns the changes after `since`; for None, none of them but where the log ends.

        Deletes what has expired first. All up to `reached` is as old as this call at most. Raises
        CorruptEntryError if the domain cannot be read, BackendUnavailableError.
        """
        places = places_of(self._prefix, domain)
        announce = (self._revisions.floor, channel_of(self._prefix), domain)
        after = "" if since is None else since
        status, *rest = await self._client.run(
            FOLLOW, [*places, places.entries + b":none"], *announce, after, PAGE_CHANGES, base.TOLD_BYTES
        )
        if status == b"corrupt revision":
            raise corrupt_revision()
        revision, expires_in = int(rest[0]), int(rest[1]) / 1_000_000 if rest[1] else None
        self._revisions.seen(revision)
        if status == b"lost":
            return LogPage(revision, revision, False, expires_in, None)
        more, reached, *found = rest[2:]
        changes = [
            _change(text_of(key), int(at), what)
            for key, at, what in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return LogPage(revision, int(reached), bool(more), expires_in, changes)


def _change(key: str, revision: int, what: bytes) -> base.Change:
    if not what:
        return base.Change(key, revision, None)
    if what.startswith(b"?"):
        return base.Change(key, revision, "", int(what[2:]) or None, told=False)
    try:
        entry = entry_of(key, what, now=0)
    except CorruptEntryError:
        entry = None
    if entry is None:
        # Who reads it is told what is wrong with it.
        return base.Change(key, revision, "", told=False)
    return base.Change(key, revision, entry.value, entry.expires)
