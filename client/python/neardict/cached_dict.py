"""A dict of one domain, near: hits are plain dict look-ups, writes go through to the service."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from . import _progress, _requests
from ._asking import AskingDict
from ._changes import Change
from ._contents import MISSING
from ._edit import Edit, edit, not_whole, pauses, unsettled
from ._near import OUTDATED, OnDisconnect
from ._views import ItemsView, KeysView, ValuesView
from .errors import AbsentKeyError, ConflictError, NotHeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ._progress import OnProgress
    from .store import Store


class CachedDict(AskingDict):
    """The entries of a domain as a dict. Made by `Store.dict`.

    A mirror (`load=True`) holds the whole domain: look-ups, `in`, `len`, iteration and `==` are local. A
    cache (`load=False`) holds what was used; the same operations answer for the whole domain all the
    same, by asking the service. In either, a key that is not held is looked up at the service, and
    `d[k]` returns the same object until the entry changes.

    Assignments, deletions and all other methods that modify write through: when they return, the service
    has acknowledged; when they raise, the dict does not show a value that is not stored. After editing a
    value in place call `d.save(key)`; `edit` does it with a check that nobody else wrote meanwhile.

    What this promises:

    - Read your writes: what was written through any dict or method of one store is seen by all its dicts
      of the domain when the call returns.
    - Never backwards: the values that one dict shows for a key never go back to an older revision.
    - Bounded staleness: what others write arrives by itself, at once while all is well. When the stream of
      changes breaks, the dict knows within 3 seconds, and asks the service for every read until it has
      caught up, or raises; `on_disconnect="serve_stale"` goes on with what it has, and `fresh` tells.
    - Convergence: when writes stop and the service can be reached, the dict equals what is stored.
    - Expired entries disappear by themselves, when the service's clock says so.

    Over a database of your own (`neardict.moobius`) nobody tells of changes: what is held there stays until
    it is written through the dict, or `refresh()`.

    Iteration is over a snapshot, so that the dict may change meanwhile. All methods are thread-safe. Any
    that asks the service raises the errors of `neardict.errors`; a key that does not exist, KeyError.

    C code that reads the storage of a dict directly, as orjson does, finds the whole of a mirror that is up
    to date; of other dicts it is refused, by a key that is not a str. `json.dumps(d)` asks, or raises.
    `dict(d)` asks key by key; `d.copy()` gives a plain dict of one moment, as do pickling and copying. See
    docs/dict.md.
    """

    __slots__ = ()

    def __init__(
        self,
        store: Store,
        domain: str,
        *,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        _progress.check(on_progress, load=load)
        super().__init__(store, domain, load=load, on_disconnect=on_disconnect, max_entries=max_entries)
        store.watch(domain)
        self.check_granted()
        if load:
            self.refresh(on_progress=on_progress)

    # Reading.

    def __missing__(self, key: object) -> Any:
        if self._knows_absent(key) or not _requests.may_exist(key):
            raise AbsentKeyError(key)
        return self._fetch(key)  # type: ignore[arg-type]  # may_exist holds for str alone

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key):  # quicker than super()
            return True
        if self._knows_absent(key) or not _requests.may_exist(key):
            return False
        try:
            self._fetch(key)  # type: ignore[arg-type]  # may_exist holds for str alone
        except AbsentKeyError:
            return False
        return True

    def get(self, key: object, default: Any = None) -> Any:
        """Returns the value of the key, or the default if there is none."""
        try:
            return self[key]  # type: ignore[index]  # any object may be asked for, as with dict
        except AbsentKeyError:
            return default

    def __len__(self) -> int:
        if self._load:
            return self._when_whole(self._held_count)
        return sum(1 for _ in self._store.all_keys(self._domain))

    def __bool__(self) -> bool:
        self._look_at_clock()
        if self._shown_count():
            return True
        if self._load:
            return self._when_whole(self._held_count) > 0
        return any(True for _ in self._store.all_keys(self._domain))

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot_keys())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.snapshot_keys())

    def keys(self) -> KeysView:  # type: ignore[override]  # dict's views are final and live
        """Returns a set-like view of the keys."""
        return KeysView(self)

    def values(self) -> ValuesView:  # type: ignore[override]  # as for keys
        """Returns a view of the values."""
        return ValuesView(self)

    def items(self) -> ItemsView:  # type: ignore[override]  # as for keys
        """Returns a view of the (key, value) pairs."""
        return ItemsView(self)

    def snapshot_keys(self) -> list[str]:
        """Returns the keys as they are now."""
        if self._load:
            return self._when_whole(self._held_keys)
        return list(self._store.all_keys(self._domain))

    def snapshot(self) -> dict[str, Any]:
        """Returns a plain dict of the whole domain, with the same value objects."""
        return self._when_whole(self._copy_held) if self._load else self._list()

    copy = snapshot

    # For the views: a list of what is held takes half the time of a copy.

    def _values_now(self) -> list[Any]:
        return self._when_whole(self._held_values) if self._load else list(self._list().values())

    def _items_now(self) -> list[tuple[str, Any]]:
        return self._when_whole(self._held_items) if self._load else list(self._list().items())

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Returns the values of those keys that have one, asking for all that are not held at once."""
        self._look_at_clock()
        found = {}
        missing = []
        for key in _requests.check_keys(keys):
            value = dict.get(self, key, MISSING)
            if value is not MISSING:
                found[key] = value
            elif _requests.may_exist(key) and not self._knows_absent(key):
                missing.append(key)
        if missing:
            with self._store.changes.calls.under_way() as call:
                self._missed(len(missing))
                for key, response in self._store.lookup_many(self._domain, missing).items():
                    value = self._install_reply(key, response, call)
                    if value is OUTDATED:
                        value = self._look_up(key)
                    if value is not MISSING:
                        found[key] = value
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.snapshot() == (other.snapshot() if isinstance(other, CachedDict) else other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # type: ignore[assignment]  # as dict

    def __or__(self, other: Any) -> Any:
        return self.snapshot() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.snapshot() if isinstance(other, dict) else NotImplemented

    def __repr__(self) -> str:
        # What is held, so that a debugger does not talk to the network.
        kind = "" if self._load else ", load=False"
        with self._lock:
            held = self._copy_held()
        return f"CachedDict({self._domain!r}{kind}, {held!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.snapshot(),)

    # Writing.

    def __setitem__(self, key: str, value: Any) -> None:
        with self._doubting(key, value) as call:
            self._wrote(key, value, self._store.write(self._request(key, value), by=self), call)

    def compare_and_set(self, key: str, value: Any, revision: int) -> None:
        """Stores the value if the entry has this revision, 0 for an absent one; else raises ConflictError."""
        condition: dict[str, Any] = {"if_revision": revision} if revision else {"if_absent": True}
        with self._doubting(key, value) as call:
            request = self._request(key, value, **condition)
            self._wrote(key, value, self._store.write(request, by=self), call)

    def __delitem__(self, key: str) -> None:
        if not _requests.may_exist(key):
            raise AbsentKeyError(key)
        request = _requests.delete_key(self._domain, key)
        with self._doubting(key) as call:
            response = self._store.remove(request, by=self)
            self.apply(Change(key, response.revision, None, None, call))
        if not response.existed:
            raise AbsentKeyError(key)

    def save(self, key: str) -> None:
        """Stores the value that is held under the key, after it was edited in place.

        Raises KeyError if the key does not exist, and NotHeldError if it does but is not held here: then
        the edited value has gone, since a write of it failed, for example, and storing what would be read
        anew in its place would lose the edit unseen.
        """
        with self._lock:
            value = self._peek(key)
        if value is MISSING:
            self.fresh_copy(key)
            raise NotHeldError(f"nothing is held under {key!r} that could be saved: d[key] = value")
        self[key] = value

    def edit(
        self,
        key: str,
        change: Callable[[Any], Any] | None = None,
        *,
        default: Any = MISSING,
        timeout: float = 30.0,
    ) -> Any:
        """Changes a value by compare-and-set, so that no other writer's change is lost.

        `d.edit(key, change)` calls `change` with a fresh copy of the value and stores what it returns, or
        the copy itself, edited in place, if it returns None. When somebody else wrote meanwhile it starts
        over, until `timeout` seconds have passed (then ConflictError). Returns the stored value.

        `with d.edit(key) as value:` gives the copy to the block and stores it at the end. A block cannot be
        started over, so here a write of somebody else raises ConflictError; nothing is stored then, nor
        when the block raises.

        An absent key starts with a copy of `default`; without a default it raises KeyError.
        """
        if change is None:
            return Edit(self, key, default)
        return edit(self, key, change, default, timeout)

    def fresh_copy(self, key: str, default: Any = MISSING) -> tuple[Any, int]:
        """Returns a copy of the value, of nobody else, and its revision; of the default, and 0, if absent."""
        entry = self._store.get_entry(self._domain, key)
        if entry is not None:
            return entry.value, entry.revision
        if default is MISSING:
            raise AbsentKeyError(key)
        return copy.deepcopy(default), 0

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Returns the value of the key, after storing the default if there was none; atomic."""
        for pause in pauses(self._store.patience):
            try:
                return self[key]
            except AbsentKeyError:
                pass
            try:
                self.compare_and_set(key, default, 0)
            except ConflictError:
                time.sleep(pause or 0.0)
                continue  # somebody else has stored it meanwhile
            return default
        raise unsettled(self._domain, key)

    def pop(self, key: str, default: Any = MISSING) -> Any:
        """Deletes the key and returns the value that it had, or the default if there was none."""
        try:
            for pause in pauses(self._store.patience):
                value = self[key]
                revision = self._revision_of(key, value)
                if revision is None:
                    time.sleep(pause or 0.0)
                    continue  # it changed while we looked
                try:
                    with self._doubting(key) as call:
                        request = _requests.delete_key(self._domain, key, if_revision=revision)
                        removed = self._store.remove(request, by=self)
                        self.apply(Change(key, removed.revision, None, None, call))
                except ConflictError:
                    time.sleep(pause or 0.0)
                    continue  # somebody else has written it, so that it is not held any more
                return value
            raise unsettled(self._domain, key)
        except AbsentKeyError:
            if default is MISSING:
                raise
            return default

    def popitem(self) -> tuple[str, Any]:
        """Deletes some entry and returns its key and value; KeyError if the domain is empty."""
        for pause in pauses(self._store.patience):
            keys = self.snapshot_keys()
            if not keys:
                raise AbsentKeyError("popitem(): the domain is empty")
            for key in reversed(keys):
                with contextlib.suppress(AbsentKeyError):  # somebody else was faster
                    return key, self.pop(key)
            time.sleep(pause or 0.0)
        raise not_whole(self._domain)

    def clear(self) -> None:
        """Deletes every entry of the domain. Raises BulkError if some could not be deleted."""
        self.delete_many(list(self._store.all_keys(self._domain)))

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Stores all given entries, many at once. Nothing is stored if one value is not supported.

        Raises BulkError if some could not be written; the others are.
        """
        new: dict[str, Any] = {}
        new.update(*args, **kwargs)
        with self._store.changes.calls.under_way() as call:
            try:
                self._store.write_many(
                    self._domain,
                    _requests.each(new, self._request),
                    by=self,
                    written=lambda key, revision: self._wrote(key, new[key], revision, call),
                )
            except BaseException as error:
                self._writes_failed(new, error)
                raise

    set_many = update

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]  # dict's overloads
        self.update(other)
        return self

    def delete_many(self, keys: Iterable[str]) -> int:
        """Deletes each key that exists, many at once, and returns how many did. Raises BulkError."""
        keys = [key for key in _requests.check_keys(keys) if _requests.may_exist(key)]
        try:
            return self._store.delete_many(self._domain, keys)
        except BaseException as error:
            self._writes_failed(dict.fromkeys(keys, MISSING), error)
            raise

    # Keeping up with the store.

    def refresh(self, key: str | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Reads the key, or the whole domain, from the service anew. `on_progress` as for Store.dict."""
        if key is None:
            self._load_all(on_progress)
        elif _requests.may_exist(key):
            self._look_up(key)

    load = refresh
