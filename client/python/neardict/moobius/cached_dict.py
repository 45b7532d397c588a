"""The SDK's CachedDict, as a near dict."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, cast

from .. import _requests, _shown
from .. import cached_dict as near
from .._terms import DEFAULT
from ..errors import AbsentKeyError, CapabilityMissingError
from .local import DOMAIN, LocalStore, Write
from .own_classes import registering
from .remote import is_near

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store import Store
    from ..v1 import storage_pb2 as pb


class CachedDict(near.CachedDict[Any]):
    """A dict over a database: RemoteDatabase, or any object with the methods of DatabaseInterface.

    It begins as a cache of what is used; `load` makes it a mirror of the whole. In either, all methods of a
    dict answer for all that is stored, and write through. Over a RemoteDatabase it has all qualities of
    `neardict.CachedDict`.

    What was not stored is not shown, and its writer is told: whatever fails, raises, in either mode.
    `strict_mode` is kept for programs that give it; the SDK's dict, without it, only logged what a
    database refused, and went on with a value that would be lost.
    """

    def __init__(self, database: Any, strict_mode: bool = False) -> None:
        self._local = not is_near(database)
        if self._local:
            # It has what a dict uses of a store.
            store, domain = cast("Store", LocalStore(database)), DOMAIN
        else:
            store, domain = database.store, database.domain
        self.database = database
        self.strict_mode = strict_mode
        super().__init__(store, domain, load=False)

    def load(self) -> None:  # type: ignore[override]  # as in the SDK, of all keys
        """Reads all that is stored, and holds it from now on."""
        with self._lock:
            loaded, self._load = self._load, True
            if not loaded:
                # What changes from now on is missed if it is not held, until all has been read.
                self._guard()
                self._listed = False
        try:
            self._load_all()
        except BaseException:
            with self._lock:
                self._load = loaded or self._listed
            raise

    def touch(self, key: str, ttl: _requests.Ttl, *, timeout: float = 30.0) -> None:
        """As of neardict.CachedDict. A database of one's own keeps entries for ever, and nothing else."""
        if not self._local:
            super().touch(key, ttl, timeout=timeout)
            return
        _refuse_ttl(ttl)
        if not self.has(key):
            raise AbsentKeyError(key)

    @reprlib.recursive_repr("{...}")
    def __repr__(self) -> str:
        with self._lock:
            held, known = self._copy_held(), self._load and self._is_whole()
        # As the SDK has it: the contents alone.
        return _shown.shown(type(self), None, held if held or known else None, load=True, fresh=True)

    def _decode(self, message: pb.Value) -> Any:
        if self._local:
            return message  # the very object
        return super()._decode(message)

    def _decode_all(self, messages: Sequence[pb.Value]) -> list[Any]:
        return list(messages) if self._local else super()._decode_all(messages)

    def _request(self, key: str, value: Any, **options: Any) -> Any:
        if self._local:
            _requests.check_text("key", key)
            _refuse_ttl(options.pop("ttl", DEFAULT))
            return Write(key, value, **options)
        return registering(value, lambda: super(CachedDict, self)._request(key, value, **options))


def _refuse_ttl(ttl: object) -> None:
    if ttl is not None and ttl is not DEFAULT:
        raise CapabilityMissingError(
            "a database of one's own has no time to live: leave it out, or use RemoteDatabase",
            reason="CAPABILITY_MISSING",
            capability="CAPABILITY_TTL",
        )
