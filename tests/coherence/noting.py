"""Looks into a store while it works: which revision a write was given, and when changes arrive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coherence.listening import Listener

if TYPE_CHECKING:
    import neardict
    import neardict.aio
    from coherence.history import Recorder
    from neardict._changes import Change


@dataclass
class Noted:
    """What the service answered to the last write of the store, which has one writer at a time."""

    revision: int = 0
    existed: bool = True

    def clear(self) -> None:
        self.revision, self.existed = 0, True


def note_revisions(store: neardict.Store) -> Noted:
    """Has the store tell what each of its writes is answered."""
    noted = Noted()
    write, remove = store._write, store.remove

    def noting_write(*args: Any, **options: Any) -> Any:
        written = write(*args, **options)
        noted.revision = written.revision
        return written

    def noting_remove(*args: Any, **options: Any) -> Any:
        response = remove(*args, **options)
        noted.revision, noted.existed = response.revision, response.existed
        return response

    store._write, store.remove = noting_write, noting_remove  # type: ignore[method-assign]  # for this one
    return noted


def note_async_revisions(store: neardict.aio.Store) -> Noted:
    """Has the store tell what each of its writes is answered."""
    noted = Noted()
    write, remove = store._write, store.remove

    async def noting_write(*args: Any, **options: Any) -> Any:
        written = await write(*args, **options)
        noted.revision = written.revision
        return written

    async def noting_remove(*args: Any, **options: Any) -> Any:
        response = await remove(*args, **options)
        noted.revision, noted.existed = response.revision, response.existed
        return response

    store._write, store.remove = noting_write, noting_remove  # type: ignore[method-assign]  # for this one
    return noted


class Arrivals(Listener):
    """A listener beside the dicts, told after them: records when the writes of others have arrived."""

    def __init__(self, client: str, recorder: Recorder) -> None:
        self._client = client
        self._recorder = recorder

    def apply(self, change: Change) -> None:
        """See neardict._changes.Listener."""
        if change.value is not None and change.value.json:
            value = json.loads(change.value.json)
            if isinstance(value, str) and not value.startswith(f"{self._client}:"):
                self._recorder.seen(self._client, value)
