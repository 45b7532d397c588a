"""A dict of one domain, near, for asyncio: reading is a plain dict, what asks the service is awaited."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _requests
from .._changes import Change
from .._contents import MISSING
from .._listing import Listing
from .._near import OUTDATED, OnDisconnect
from .._observed import ObservedDict
from .._progress import Progress
from ..errors import AbsentKeyError, ClosedError, ConflictError, NeardictError, NotHeldError
from ._edit import Edit, edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._progress import OnProgress
    from .store import Store

logger = logging.getLogger(__name__)

# Between attempts to read a mirror anew, after the service could not tell what it has missed.
_RELOAD_PAUSE = 0.5  # seconds


class CachedDict(ObservedDict):
    """The entries of a domain as a dict. Made by `await Store.dict(domain)`.

    What is read is local, and what is written is awaited. In a mirror (`load=True`) `d[k]`, `in`, `len`,
    iteration and all other reading methods of dict answer for the whole domain. A cache (`load=False`)
    holds what was used; where a reading method would have to ask the service it raises NotHeldError,
    which names what to await: `fetch` for a key, `snapshot` for the domain.

    `set`, `delete`, `pop`, `popitem`, `setdefault`, `update`, `clear`, `save` and `edit` write through:
    when they return, the service has acknowledged; when they raise, the dict does not show a value that is
    not stored. Changes are applied on the event loop: between two awaits the dict stays as it is, and a
    loop over it that awaits inside should go over a copy.

    The promises are those of `neardict.CachedDict`. While the stream of changes is broken, reading raises
    NotHeldError, unless it was made with `on_disconnect="serve_stale"`. A mirror whose changes were lost
    reads the domain anew by itself, and until it has, reading raises NotHeldError as well.
    """

    __slots__ = ("_reload_due",)

    _store: Store
    _flights: dict[str, asyncio.Task[Any]]

    def __init__(
        self,
        store: Store,
        domain: str,
        *,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
    ) -> None:
        super().__init__(store, domain, load=load, on_disconnect=on_disconnect, max_entries=max_entries)

    def _begin(self) -> None:
        super()._begin()
        self._reload_due = False

    # Reading what is held.

    def __missing__(self, key: object) -> NoReturn:
        if _requests.may_exist(key) and not self._shows_absent(key):
            raise NotHeldError(f"the key {key!r} is not held here: await d.fetch(key)")
        raise AbsentKeyError(key)

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key):  # quicker than super()
            return True
        if _requests.may_exist(key) and not self._shows_absent(key):
            raise NotHeldError(f"the key {key!r} is not held here: await d.has(key)")
        return False

    def get(self, key: object, default: Any = None) -> Any:
        """Returns the value of the key, or the default if there is none."""
        try:
            return self[key]  # type: ignore[index]  # any object may be asked for, as with dict
        except AbsentKeyError:
            return default

    def __len__(self) -> int:
        self._need_whole()
        return super().__len__()

    def __iter__(self) -> Iterator[str]:
        self._need_whole()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self._need_whole()
        return super().__reversed__()

    def keys(self) -> Any:
        """Returns dict's own view of the keys."""
        self._need_whole()
        return super().keys()

    def values(self) -> Any:
        """Returns dict's own view of the values."""
        self._need_whole()
        return super().values()

    def items(self) -> Any:
        """Returns dict's own view of the (key, value) pairs."""
        self._need_whole()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """Returns a plain dict of the whole domain, with the same value objects."""
        self._need_whole()
        return self._copy_held()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() == (other.copy() if isinstance(other, CachedDict) else other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # type: ignore[assignment]  # as dict

    def __or__(self, other: Any) -> Any:
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __repr__(self) -> str:
        kind = "" if self._load else ", load=False"
        return f"aio.CachedDict({self._domain!r}{kind}, {self._copy_held()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    # Asking the service.

    async def fetch(self, key: str, default: Any = MISSING) -> Any:
        """Returns the value, from the service if it is not held; the default, or KeyError, if absent."""
        value = dict.get(self, key, MISSING)
        if value is MISSING and _requests.may_exist(key) and not self._knows_absent(key):
            value = await self._shared_look_up(key)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise AbsentKeyError(key)
        return default

    async def has(self, key: str) -> bool:
        """Returns whether the key exists, asking the service if it is not held."""
        return await self.fetch(key, MISSING_DEFAULT) is not MISSING_DEFAULT

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Returns the values of those keys that have one, asking for all that are not held at once."""
        keys = list(_requests.check_keys(keys))
        missing = [
            key
            for key in keys
            if not dict.__contains__(self, key) and _requests.may_exist(key) and not self._knows_absent(key)
        ]
        found = {key: value for key in keys if (value := dict.get(self, key, MISSING)) is not MISSING}
        self._missed(len(missing))
        with self._store.changes.calls.under_way() as call:
            for key, response in (await self._store.lookup_many(self._domain, missing)).items():
                value = self._install_reply(key, response, call)
                if value is OUTDATED:
                    value = await self._look_up(key)
                if value is not MISSING:
                    found[key] = value
        return found

    async def snapshot(self) -> dict[str, Any]:
        """Returns a plain dict of the whole domain, asking the service unless this is a whole mirror."""
        whole = self._load and self._shows_all() and self._is_whole()
        return self._copy_held() if whole else await self._list()

    async def refresh(self, key: str | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Reads the key, or the whole domain, from the service anew. `on_progress` as for Store.dict."""
        if key is None:
            await self._read_all(on_progress)
        elif _requests.may_exist(key):
            await self._look_up(key)

    # Writing.

    async def set(self, key: str, value: Any) -> None:
        """Stores the value: what `d[key] = value` is for a plain dict."""
        with self._doubting(key, value) as call:
            self._wrote(key, value, await self._store.write(self._request(key, value), by=self), call)

    async def compare_and_set(self, key: str, value: Any, revision: int) -> None:
        """Stores the value if the entry has this revision, 0 for an absent one; else raises ConflictError."""
        condition: dict[str, Any] = {"if_revision": revision} if revision else {"if_absent": True}
        with self._doubting(key, value) as call:
            request = self._request(key, value, **condition)
            self._wrote(key, value, await self._store.write(request, by=self), call)

    async def delete(self, key: str) -> None:
        """Deletes the key; KeyError if it is absent."""
        if not _requests.may_exist(key):
            raise AbsentKeyError(key)
        with self._doubting(key) as call:
            response = await self._store.remove(_requests.delete_key(self._domain, key), by=self)
            self.apply(Change(key, response.revision, None, None, call))
        if not response.existed:
            raise AbsentKeyError(key)

    async def save(self, key: str) -> None:
        """Stores the value that is held under the key, after it was edited in place.

        Raises KeyError or NotHeldError if none is, as neardict.CachedDict does.
        """
        value = self._peek(key)
        if value is MISSING:
            await self.fresh_copy(key)
            raise NotHeldError(f"nothing is held under {key!r} that could be saved: await d.set(key, value)")
        await self.set(key, value)

    async def setdefault(self, key: str, default: Any = None) -> Any:
        """Returns the value of the key, after storing the default if there was none; atomic."""
        while True:
            value = await self.fetch(key, MISSING_DEFAULT)
            if value is not MISSING_DEFAULT:
                return value
            try:
                await self.compare_and_set(key, default, 0)
            except ConflictError:
                continue  # somebody else has stored it meanwhile
            return default

    async def pop(self, key: str, default: Any = MISSING) -> Any:
        """Deletes the key and returns the value that it had, or the default if there was none."""
        while True:
            value = await self.fetch(key, MISSING_DEFAULT)
            if value is MISSING_DEFAULT:
                if default is MISSING:
                    raise AbsentKeyError(key)
                return default
            revision = self._revision_of(key, value)
            if revision is None:
                continue  # it changed while we waited
            try:
                with self._doubting(key) as call:
                    request = _requests.delete_key(self._domain, key, if_revision=revision)
                    removed = await self._store.remove(request, by=self)
                    self.apply(Change(key, removed.revision, None, None, call))
            except ConflictError:
                continue  # somebody else has written it, so that it is not held any more
            return value

    async def popitem(self) -> tuple[str, Any]:  # type: ignore[override]  # awaited
        """Deletes some entry and returns its key and value; KeyError if the domain is empty."""
        while True:
            entries = await self.snapshot()
            if not entries:
                raise AbsentKeyError("popitem(): the domain is empty")
            for key in reversed(entries):
                value = await self.pop(key, MISSING_DEFAULT)
                if value is not MISSING_DEFAULT:
                    return key, value

    async def update(self, /, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]  # awaited
        """Stores all given entries, many at once. Nothing is stored if one value is not supported.

        Raises BulkError if some could not be written; the others are.
        """
        new: dict[str, Any] = {}
        new.update(*args, **kwargs)
        with self._store.changes.calls.under_way() as call:
            try:
                await self._store.write_many(
                    self._domain,
                    _requests.each(new, self._request),
                    by=self,
                    written=lambda key, revision: self._wrote(key, new[key], revision, call),
                )
            except BaseException as error:
                self._writes_failed(new, error)
                raise

    set_many = update

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Deletes each key that exists, many at once, and returns how many did. Raises BulkError."""
        keys = [key for key in _requests.check_keys(keys) if _requests.may_exist(key)]
        try:
            return await self._store.delete_many(self._domain, keys)
        except BaseException as error:
            self._writes_failed(dict.fromkeys(keys, MISSING), error)
            raise

    async def clear(self) -> None:  # type: ignore[override]  # awaited
        """Deletes every entry of the domain. Raises BulkError if some could not be deleted."""
        await self.delete_many([key async for key in self._store.all_keys(self._domain)])

    def edit(
        self,
        key: str,
        change: Callable[[Any], Any] | None = None,
        *,
        default: Any = MISSING,
        timeout: float = 30.0,
    ) -> Any:
        """`await d.edit(key, function)` or `async with d.edit(key) as value:`, as for neardict.CachedDict."""
        if change is None:
            return Edit(self, key, default)
        return edit(self, key, change, default, timeout)

    async def fresh_copy(self, key: str, default: Any = MISSING) -> tuple[Any, int]:
        """Returns a copy of the value, of nobody else, and its revision; of the default, and 0, if absent."""
        entry = await self._store.get_entry(self._domain, key)
        if entry is not None:
            return entry.value, entry.revision
        if default is MISSING:
            raise AbsentKeyError(key)
        return copy.deepcopy(default), 0

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise TypeError("assignment cannot wait for the service: await d.set(key, value)")

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("del cannot wait for the service: await d.delete(key)")

    def __ior__(self, other: Any) -> NoReturn:
        raise TypeError("|= cannot wait for the service: await d.update(other)")

    def _shows_absent(self, key: object) -> bool:
        """Returns whether a key that is not held is absent for a reader who cannot wait for the service."""
        if self._store.changes.session is not None or not self._load:
            return self._knows_absent(key)
        # Without a stream a mirror is what it was when it was read.
        return self._listed and key not in self._versions.doubtful and key not in self._unreadable

    def _need_whole(self) -> None:
        if not self._load:
            raise NotHeldError("this cache does not hold the whole domain: use await d.snapshot()")
        if not self._shows_all():
            raise NotHeldError("this mirror does not know whether it is up to date: use await d.snapshot()")
        if not self._is_whole():
            raise NotHeldError("this mirror lost changes, or a write of it failed: await d.refresh() first")

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        super().apply(change)
        if change.key in self._versions.doubtful:
            # A mirror cannot wait until somebody asks, since reading it is not awaited.
            self._start_look_up(change.key)

    def _wrote(self, key: str, value: Any, revision: int, call: int) -> None:
        super()._wrote(key, value, revision, call)
        if key in self._versions.doubtful:
            self._start_look_up(key)

    def reset(self) -> None:
        """Drops all that is held; for this package."""
        # Also a mirror that lost its place in the stream must not wait until somebody asks.
        self._reload_due |= self._load and self._listed
        super().reset()

    def freshen(self) -> None:
        """Shows what is held, which is up to date; for this package."""
        super().freshen()
        if self._reload_due:
            self._reload_due = False
            self._store.spawn(self._reload())

    async def _reload(self) -> None:
        while not self._listed:
            try:
                await self._read_all()
            except ClosedError:
                return
            except NeardictError as error:
                logger.debug("a mirror could not be read anew: %s", type(error).__name__)
                await asyncio.sleep(_RELOAD_PAUSE)

    def _start_look_up(self, key: str) -> asyncio.Task[Any]:
        task = self._flights[key] = asyncio.create_task(self._look_up(key))
        task.add_done_callback(lambda done: self._land(key, done))
        return task

    async def _shared_look_up(self, key: str) -> Any:
        """Returns the value, or MISSING; while fresh, concurrent misses of one key share one request."""
        self._missed(1)
        if not self._shares_look_ups():
            return await self._look_up(key)
        self._store.check_open()  # before asyncio looks for its loop, which a forked child has not
        task = self._flights.get(key) or self._start_look_up(key)
        # One who gives up must not take the answer away from the others.
        return await asyncio.shield(task)

    def _land(self, key: str, task: asyncio.Task[Any]) -> None:
        if self._flights.get(key) is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # all who wait have it; if nobody does, it is not missed

    async def _look_up(self, key: str) -> Any:
        """Asks the service, holds what it found, and returns the value or MISSING."""
        while True:
            with self._store.changes.calls.under_way() as call:
                value = self._install_reply(key, await self._store.lookup(self._domain, key), call)
            if value is not OUTDATED:
                return value

    async def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        return self._copy_listed(await self._read_all())

    async def _read_all(self, on_progress: OnProgress | None = None) -> Listing:
        """Reads the whole domain, and holds it."""
        progress = None if on_progress is None else Progress(on_progress)
        calls = self._store.changes.calls
        while True:
            listing = Listing(calls.begin())
            begin_again = partial(listing.begin_again, calls)
            try:
                request = _requests.all_keys(self._domain, entries=True)
                async with aclosing(self._store.pages(request, restart=begin_again)) as pages:
                    async for page in pages:
                        self._take_page(listing, page)
                        if progress is not None:
                            progress.tell(listing.loaded, listing.total)
                self._end_listing(listing)
            finally:
                calls.end(listing.call)
            if self._is_whole():
                if progress is not None:
                    progress.tell(listing.loaded, listing.loaded)
                return listing


# Told apart from "no default was given".
MISSING_DEFAULT: Any = object()
