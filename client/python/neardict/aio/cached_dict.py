"""A dict of one domain, near, for asyncio: reading is a plain dict, what asks the service is awaited."""

from __future__ import annotations

import asyncio
import itertools
import reprlib
import time
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, overload

from .. import _requests, _shown
from .._changes import Change
from .._contents import MISSING
from .._edit import LEAST_ATTEMPTS, Draft, not_whole, pauses, unsettled
from .._edited import Change as EditChange
from .._listing import Listing
from .._near import LOOK_UPS_AT_ONCE, OUTDATED, OnDisconnect
from .._observed import ObservedDict
from .._progress import Progress
from .._terms import DEFAULT, Terms, Ttl
from .._value_type import V
from .._views import ItemsView, KeysView, ValuesView
from ..errors import (
    AbsentKeyError,
    CapabilityMissingError,
    ConflictError,
    DataLossError,
    NotHeldError,
    UndecodableValueError,
)
from ._edit import Edit, edit

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Sequence,
    )

    from .._observers import Observer
    from .._progress import OnProgress
    from ..v1 import storage_pb2 as pb
    from .store import Store

_Other = TypeVar("_Other")


class CachedDict(ObservedDict[V]):
    """The entries of a domain as a dict. Made by `await Store.dict(domain)`.

    What is read is local, and what is written is awaited. In a mirror (`load=True`) `d[k]`, `in`, `len`,
    iteration and all other reading methods of dict answer for the whole domain. A cache (`load=False`)
    holds what was used; where a reading method would have to ask the service it raises NotHeldError,
    which names what to await: `fetch` for a key, `snapshot` for the domain.

    `set`, `delete`, `pop`, `popitem`, `setdefault`, `update`, `clear`, `save` and `edit` write through:
    when they return, the service has acknowledged; when they raise, the dict does not show a value that is
    not stored. Changes are applied on the event loop: between two awaits the dict stays as it is, and a
    loop over it that awaits inside should go over a copy.

    The promises are those of `neardict.CachedDict`, and so is how long entries live. While the stream of
    changes is broken, reading raises NotHeldError, unless it was made with `on_disconnect="serve_stale"`. A
    mirror whose changes were lost reads the domain anew by itself, and until it has, reading raises
    NotHeldError as well.
    """

    __slots__ = ("_terms",)

    _store: Store
    _flights: dict[str, asyncio.Task[Any]]
    _terms: Terms

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> V: ...

    else:

        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            # Hidden from type checkers, which are to see the constructor alone.
            plain = _shown.plain(*arguments, **options)
            return super().__new__(cls) if plain is None else plain

    def __init__(
        self,
        store: Store,
        domain: str,
        value_type: type[V] | None = None,
        *,
        ttl: _requests.Ttl = None,
        load: bool = True,
        on_disconnect: OnDisconnect = "ask",
        max_entries: int | None = None,
    ) -> None:
        self._terms = Terms(ttl, value_type)
        super().__init__(store, domain, load=load, on_disconnect=on_disconnect, max_entries=max_entries)

    # Reading what is held.

    def __missing__(self, key: object) -> V:
        if _requests.may_exist(key) and not self._shows_absent(key):
            raise NotHeldError(f"the key {key!r} is not held here: await d.fetch(key)")
        raise AbsentKeyError(key)

    def __contains__(self, key: object) -> bool:
        self._look_at_clock()
        if dict.__contains__(self, key):  # quicker than super()
            return True
        if _requests.may_exist(key) and not self._shows_absent(key):
            raise NotHeldError(f"the key {key!r} is not held here: await d.has(key)")
        return False

    @overload  # type: ignore[override]  # any object may be asked for, as with dict
    def get(self, key: object) -> V | None: ...

    @overload
    def get(self, key: object, default: V | _Other) -> V | _Other: ...

    def get(self, key: object, default: Any = None) -> Any:
        """Returns the value of the key, or the default if there is none."""
        self._look_at_clock()
        try:
            return self[key]  # type: ignore[index]  # any object may be asked for, as with dict
        except AbsentKeyError:
            return default

    def __len__(self) -> int:
        self._need_whole()
        return self._held_count()

    def __iter__(self) -> Iterator[str]:
        self._need_whole()
        return iter(self._held_keys())

    def __reversed__(self) -> Iterator[str]:
        self._need_whole()
        return reversed(self._held_keys())

    def keys(self) -> KeysView:  # type: ignore[override]  # dict's views are final, and see the storage
        """Returns a set-like view of the keys."""
        self._need_whole()
        return KeysView(self)

    def values(self) -> ValuesView[V]:  # type: ignore[override]  # as for keys
        """Returns a view of the values."""
        self._need_whole()
        return ValuesView(self)

    def items(self) -> ItemsView[V]:  # type: ignore[override]  # as for keys
        """Returns a view of the (key, value) pairs."""
        self._need_whole()
        return ItemsView(self)

    # For the views.

    def _values_now(self) -> list[V]:
        self._need_whole()
        return self._held_values()

    def _items_now(self) -> list[tuple[str, V]]:
        self._need_whole()
        return self._held_items()

    def copy(self) -> dict[str, V]:
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

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]  # dict's overloads
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]  # dict's overloads
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    @reprlib.recursive_repr("{...}")
    def __repr__(self) -> str:
        held, known = self._copy_held(), self._load and self._is_whole()
        return _shown.shown(
            type(self),
            self._domain,
            held if held or known else None,
            load=self._load,
            fresh=self._is_shown_fresh(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    @classmethod
    def fromkeys(cls, keys: Iterable[str], value: Any = None, /) -> dict[str, Any]:  # type: ignore[override]
        """Returns a plain dict, since no store is given that a near dict could be of."""
        return dict.fromkeys(keys, value)

    # How values travel.

    def _decode(self, message: pb.Value) -> Any:
        return self._terms.decode(message, self._store.accepted)

    def _decode_all(self, messages: Sequence[pb.Value]) -> list[Any]:
        return self._terms.decode_all(messages, self._store.accepted)

    def _request(self, key: str, value: Any, **options: Any) -> Any:
        return self._terms.request(self._domain, key, value, **options)

    # Asking the service.

    def on_change(
        self,
        callback: Callable[[str, Any, int], object],
        *,
        on_reset: Callable[[], object] | None = None,
    ) -> Observer:
        """Calls `callback(key, value, revision)` for each change, as neardict.CachedDict, on the loop."""
        self._store.check_open()
        return super().on_change(callback, on_reset=on_reset)

    async def fetch(self, key: object, default: V | _Other = MISSING) -> V | _Other:
        """Returns the value, from the service if it is not held; the default, or KeyError, if absent."""
        self._store.check_loop()
        self._look_at_clock()
        value: Any = dict.get(self, key, MISSING)  # type: ignore[misc]  # any object may be asked for
        if value is MISSING and _requests.may_exist(key) and not self._knows_absent(key):
            value = await self._shared_look_up(key)  # type: ignore[arg-type]  # may_exist holds for str alone
        if value is not MISSING:
            found: V = value
            return found
        if default is MISSING:
            raise AbsentKeyError(key)
        return default

    async def has(self, key: object) -> bool:
        """Returns whether the key exists, asking the service if it is not held."""
        return await self.fetch(key, MISSING_DEFAULT) is not MISSING_DEFAULT

    async def snapshot_keys(self) -> list[str]:
        """Returns the keys as they are now, asking the service unless this is a whole mirror."""
        return list(await self.snapshot()) if self._load else await self._list_keys()

    async def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Returns the values of those keys that have one, asking for all that are not held at once."""
        self._store.check_loop()
        keys = list(_requests.check_keys(keys))
        self._look_at_clock()
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

    async def snapshot(self) -> dict[str, V]:
        """Returns a plain dict of the whole domain, asking the service unless this is a whole mirror."""
        self._look_at_clock()
        self._store.check_loop()
        whole = self._load and self._shows_all() and self._is_whole()
        return self._copy_held() if whole else await self._list()

    async def refresh(self, key: str | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Reads the key, or the whole domain, from the service anew. `on_progress` as for Store.dict.

        What is held and is not what is stored is replaced: edits in place that were not saved are gone.
        """
        if key is None:
            await self._read_all(on_progress, self._copy_held())
        elif _requests.may_exist(key):
            before = self._peek(key)
            with self._store.changes.calls.under_way() as call:
                reply = await self._store.lookup(self._domain, key)
                value = self._install_reply(key, reply, call)
                self._renew_reply(reply, before)
            if value is OUTDATED:
                await self._look_up(key)

    load = refresh

    # Writing.

    async def set(self, key: str, value: V, *, ttl: Ttl = DEFAULT, keep_ttl: bool = False) -> None:
        """Stores the value: what `d[key] = value` is for a plain dict. Options as for neardict.CachedDict."""
        if not keep_ttl:
            await self._write(key, value, ttl=ttl)
            return
        try:
            await self._write(key, value, ttl=ttl, keep_ttl=True)
        except ConflictError:
            raise AbsentKeyError(key) from None
        except CapabilityMissingError as error:
            if error.capability != _requests.KEEP_TTL:
                raise
            await self._replace_permanent(key, value, error)

    async def _replace_permanent(self, key: str, value: V, missing: CapabilityMissingError) -> None:
        """Stores the value in place of one that does not expire, where the service cannot keep a ttl."""
        for pause in pauses(self._store.patience):
            draft = await self._draft(key)
            if draft.expires:
                raise missing
            try:
                return await self._write(key, value, ttl=None, if_revision=draft.revision)
            except ConflictError:  # it is another entry by now
                await asyncio.sleep(pause or 0.0)
        raise unsettled(self._domain, key)

    async def compare_and_set(
        self, key: str, value: V, revision: int, *, ttl: Ttl = DEFAULT, keep_ttl: bool = False
    ) -> None:
        """Stores the value if the entry has this revision, 0 for an absent one; else raises ConflictError.

        `ttl` and `keep_ttl` as for `set`.
        """
        condition: dict[str, Any] = {"if_revision": revision} if revision else {"if_absent": True}
        await self._write(key, value, ttl=ttl, **({"keep_ttl": True} if keep_ttl else {}), **condition)

    async def _write(self, key: str, value: V, **options: Any) -> None:
        with self._doubting(key, value) as call:
            revision, expires = await self._store.write(self._request(key, value, **options), by=self)
            self._wrote(key, value, revision, call, expires)

    async def touch(self, key: str, ttl: _requests.Ttl, *, timeout: float = 30.0) -> None:
        """Gives the entry a new time to live, None for ever, with the value as it is stored.

        KeyError if it is absent. When somebody else writes meanwhile it starts over, until `timeout` seconds
        have passed; then ConflictError.
        """
        for pause in pauses(timeout):
            if not _requests.may_exist(key):
                raise AbsentKeyError(key)
            found = await self._store.lookup(self._domain, key)
            if not found.found:
                raise AbsentKeyError(key)
            try:
                with self._doubting(key) as call:
                    request = self._terms.touching(self._domain, found.entry, ttl)
                    held = self._held_at(key, found.entry.revision)
                    revision, expires = await self._store.write(request, by=self)
                    self._touched(found.entry, held, revision, expires, call)
            except ConflictError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return

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

        The entry expires when it would have. Raises KeyError or NotHeldError if none is held, as
        neardict.CachedDict does.
        """
        value = self._peek(key)
        if value is MISSING:
            await self._draft(key)
            raise NotHeldError(f"nothing is held under {key!r} that could be saved: await d.set(key, value)")
        await self.set(key, value, keep_ttl=True)

    @overload  # type: ignore[override]  # awaited
    async def setdefault(
        self: CachedDict[_Other | None], key: str, default: None = None
    ) -> _Other | None: ...

    @overload
    async def setdefault(self, key: str, default: V) -> V: ...

    async def setdefault(self, key: str, default: Any = None) -> Any:
        """Returns the value of the key, after storing the default if there was none; atomic."""
        for pause in pauses(self._store.patience):
            value = await self.fetch(key, MISSING_DEFAULT)
            if value is not MISSING_DEFAULT:
                return value
            try:
                await self.compare_and_set(key, default, 0)
            except ConflictError:
                await asyncio.sleep(pause or 0.0)
                continue  # somebody else has stored it meanwhile
            return default
        raise unsettled(self._domain, key)

    @overload  # type: ignore[override]  # awaited
    async def pop(self, key: object) -> V: ...

    @overload
    async def pop(self, key: object, default: V | _Other) -> V | _Other: ...

    async def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Deletes the key and returns the value that it had, or the default if there was none."""
        for pause in pauses(self._store.patience):
            value = await self.fetch(key, MISSING_DEFAULT)
            if value is MISSING_DEFAULT:
                if default is MISSING:
                    raise AbsentKeyError(key)
                return default
            revision = self._revision_of(key, value)
            if revision is None:
                await asyncio.sleep(pause or 0.0)
                continue  # it changed while we waited
            try:
                with self._doubting(key) as call:
                    request = _requests.delete_key(self._domain, key, if_revision=revision)
                    removed = await self._store.remove(request, by=self)
                    self.apply(Change(key, removed.revision, None, None, call))
            except ConflictError:
                await asyncio.sleep(pause or 0.0)
                continue  # somebody else has written it, so that it is not held any more
            return value
        raise unsettled(self._domain, key)

    async def popitem(self) -> tuple[str, V]:  # type: ignore[override]  # awaited
        """Deletes some entry and returns its key and value; KeyError if the domain is empty."""
        for pause in pauses(self._store.patience):
            entries = await self.snapshot()
            if not entries:
                raise AbsentKeyError("popitem(): the domain is empty")
            for key in reversed(entries):
                value = await self.pop(key, MISSING_DEFAULT)
                if value is not MISSING_DEFAULT:
                    return key, value
            await asyncio.sleep(pause or 0.0)
        raise not_whole(self._domain)

    async def update(  # type: ignore[override]  # awaited
        self, other: Mapping[str, V] | Iterable[tuple[str, V]] = (), /, **entries: V
    ) -> None:
        """Stores all given entries, many at once. Nothing is stored if one value is not supported.

        Raises BulkError if some could not be written; the others are.
        """
        new: dict[str, Any] = {}
        new.update(other, **entries)
        with self._store.changes.calls.under_way() as call:
            try:
                await self._store.write_many(
                    self._domain,
                    _requests.each(new, self._request),
                    by=self,
                    written=lambda key, done: self._wrote(key, new[key], done.revision, call, done.expires),
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
        await self.delete_many(await self._list_keys())

    @overload
    def edit(
        self,
        key: str,
        change: None = None,
        *,
        default: V = ...,
        ttl: Ttl = ...,
    ) -> Edit[V]: ...

    @overload
    def edit(
        self,
        key: str,
        change: Callable[[V], V | None],
        *,
        default: V = ...,
        ttl: Ttl = ...,
        replace: Literal[False] = False,
        timeout: float = 30.0,
    ) -> Coroutine[Any, Any, V]: ...

    @overload
    def edit(
        self,
        key: str,
        change: Callable[[V], V],
        *,
        default: V = ...,
        ttl: Ttl = ...,
        replace: bool,
        timeout: float = 30.0,
    ) -> Coroutine[Any, Any, V]: ...

    def edit(
        self,
        key: str,
        change: Callable[[Any], Any] | None = None,
        *,
        default: Any = MISSING,
        ttl: Ttl = DEFAULT,
        replace: bool = False,
        timeout: float = 30.0,
    ) -> Any:
        """`await d.edit(key, function)` or `async with d.edit(key) as value:`, as for neardict.CachedDict."""
        if change is None:
            return Edit(self, key, default, ttl)
        return edit(self, key, EditChange(change, replace=replace), default, ttl, timeout)

    async def _draft(self, key: str, default: Any = MISSING) -> Draft:
        """Returns a copy of the value, or of the default if the key is absent. Raises AbsentKeyError."""
        entry = await self._store.get_entry(self._domain, key) if _requests.may_exist(key) else None
        return Draft.of(entry, key, default, self._terms)

    async def _store_draft(self, key: str, value: Any, draft: Draft, ttl: Ttl) -> None:
        """Stores what was made of a draft. Raises ConflictError if somebody else has written meanwhile."""
        await self.compare_and_set(key, value, draft.revision, **draft.options(ttl))

    # What cannot be awaited. Nothing is of the type Never, so that type checkers refuse the statements.

    def __setitem__(self, key: Never, value: Never) -> None:  # type: ignore[override]
        raise TypeError("assignment cannot wait for the service: await d.set(key, value)")

    def __delitem__(self, key: Never) -> None:  # type: ignore[override]
        raise TypeError("del cannot wait for the service: await d.delete(key)")

    def __ior__(self, other: Never) -> Self:  # type: ignore[override,misc]
        raise TypeError("|= cannot wait for the service: await d.update(other)")

    def _shows_absent(self, key: object) -> bool:
        """Returns whether a key that is not held is absent for a reader who cannot wait for the service."""
        if self._store.changes.session is not None or not self._load:
            return self._knows_absent(key)
        # Without a stream a mirror is what it was when it was read.
        return self._listed and key not in self._versions.doubtful and key not in self._unreadable

    def _need_whole(self) -> None:
        self._look_at_clock()
        if not self._load:
            raise NotHeldError("this cache does not hold the whole domain: use await d.snapshot()")
        if not self._shows_all():
            raise NotHeldError("this mirror does not know whether it is up to date: use await d.snapshot()")
        if not self._is_whole():
            raise NotHeldError("this mirror lost changes, or a write of it failed: await d.refresh() first")

    def apply(self, change: Change) -> None:
        """Takes notice of a write; for this package."""
        super().apply(change)
        self._look_up_if_doubtful(change.key)

    def _wrote(self, key: str, value: Any, revision: int, call: int, expires: float | None = None) -> None:
        super()._wrote(key, value, revision, call, expires)
        self._look_up_if_doubtful(key)

    def _look_up_if_doubtful(self, key: str) -> None:
        # With a stream it is read in the background. Without it too, since reading this dict is not awaited.
        if self._store.changes.session is None and key in self._versions.doubtful:
            self._start_look_up(key)

    async def reload(self) -> None:
        """Reads what a mirror lacks; for this package. Raises what reading raises."""
        keys = self._to_look_up()
        if keys is None:
            await self._read_all()
        for start in range(0, len(keys or ()), LOOK_UPS_AT_ONCE):
            some = (keys or [])[start : start + LOOK_UPS_AT_ONCE]
            # Together they travel together.
            await asyncio.gather(*map(self._settle_one, some))

    async def _settle_one(self, key: str) -> None:
        doubt = self._versions.doubtful.get(key)
        try:
            await asyncio.shield(self._flights.get(key) or self._start_look_up(key))
        except (DataLossError, UndecodableValueError) as error:
            self._leave_out(key, error, doubt)
        self._looked_up(key)

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
        for pause in pauses(self._store.patience):
            with self._store.changes.calls.under_way() as call:
                value = self._install_reply(key, await self._store.lookup(self._domain, key), call)
            if value is not OUTDATED:
                return value
            await asyncio.sleep(pause or 0.0)
        raise unsettled(self._domain, key)

    async def _list(self) -> dict[str, Any]:
        """Reads the whole domain, holds it and returns it as a plain dict."""
        return self._copy_listed(await self._read_all())

    async def _list_keys(self) -> list[str]:
        """Asks the service for all keys. All of them count, so that a listing that broke begins again."""
        keys: list[str] = []
        request = _requests.all_keys(self._domain)
        async with aclosing(self._store.pages(request, restart=keys.clear)) as pages:
            async for page in pages:
                keys += page.keys
        return keys

    async def _read_all(
        self, on_progress: OnProgress | None = None, before: dict[str, Any] | None = None
    ) -> Listing:
        """Reads the whole domain, and holds it."""
        progress = None if on_progress is None else Progress(on_progress)
        calls = self._store.changes.calls
        deadline = time.monotonic() + self._store.patience
        for attempt in itertools.count():
            listing = Listing(calls.begin(), before=before or {})
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
            if attempt >= LEAST_ATTEMPTS and time.monotonic() > deadline:
                break
        raise not_whole(self._domain)


# Told apart from "no default was given".
MISSING_DEFAULT: Any = object()
