"""Writes of entries in files: what waits for the disk waits together, what is seen is made in order."""

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from ...errors import ConditionFailedError
from .. import base
from . import files
from .files import Stored
from .format import encode
from .health import Health
from .high_water import HighWater
from .locks import Locks
from .lookup import name_for_writing
from .names import file_name, folder_names, foreign_name, is_shortened
from .revisions import Revisions

Write = base.Set | base.Delete


# Calls a function on each item, as `map` does, or on several at a time, as the `map` of an executor.
Spread = Callable[[Callable[["_Writing"], None], Iterable["_Writing"]], Iterable[None]]


@dataclass
class _Writing:
    """A write under way: `change` once it has been made."""

    write: Write
    # Its own, or 0 if it is no change; and the last that was given up to it.
    revision: int = 0
    reached: int = 0
    change: base.Change | None = None
    outcome: base.Outcome | None = None
    # Of a set, once it is written: its file's name, the temporary one, and what is in it.
    temporary: tuple[str, str, Stored] | None = None
    # Removes the temporary file if the body fails.
    prepared: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Writes:
    """May be used from any thread. `current` returns a key's revision, ABSENT for none, under its lock."""

    def __init__(
        self,
        tree: files.Tree,
        locks: Locks,
        revisions: Revisions,
        high_water: HighWater,
        health: Health,
        current: Callable[[str, str], int],
    ) -> None:
        self._tree = tree
        self._locks = locks
        self._revisions = revisions
        self._high_water = high_water
        self._health = health
        self._current = current
        # Domains whose folders were made to last by this process.
        self._lasting: set[str] = set()

    def make(self, domain: str, writes: Sequence[Write], spread: Spread = map) -> list[base.Outcome]:
        """Makes writes of different keys, and returns when they last: for each what it has done, or an error.

        They are made in their order, with revisions in that order, after all have waited for the disk
        together; `spread` says how many at a time. Each fails alone.
        """
        under_way = [_Writing(write) for write in writes]
        with self._locks.of_keys(domain, (write.key for write in writes)):
            self._make(domain, under_way, spread)
            again = [one for one in under_way if isinstance(one.outcome, FileNotFoundError)]
            if again:
                # Somebody removed the folder; make it again.
                self._lasting.discard(domain)
                for one in again:
                    one.outcome = one.temporary = None
                    one.revision = 0
                self._make(domain, again, spread)
        # Each has one by now.
        outcomes = [cast("base.Outcome", one.outcome) for one in under_way]
        return [
            self._health.meaning(outcome) if isinstance(outcome, OSError) else outcome for outcome in outcomes
        ]

    def _make(self, domain: str, under_way: list[_Writing], spread: Spread) -> None:
        for one in under_way:
            with self._failing(one):
                self._health.check_usable()
                self._check(domain, one.write)
        due = [one for one in under_way if one.outcome is None]
        names = folder_names(domain)
        try:
            if domain not in self._lasting and any(isinstance(one.write, base.Set) for one in due):
                self._tree.create(names)
                self._lasting.add(domain)
            with self._tree.open(names) as folder:
                if folder is None:
                    for one in due:
                        one.outcome = self._without_folder(domain, one.write, names[-1])
                else:
                    self._make_in(folder, domain, due, spread)
        except OSError as error:
            failure = self._meaning(error)
            for one in due:
                if not isinstance(one.outcome, Exception):
                    one.outcome = failure

    def _without_folder(self, domain: str, write: Write, name: str) -> base.Outcome:
        if isinstance(write, base.Delete):
            return base.Deleted(existed=False, revision=self._revisions.current(domain))
        return FileNotFoundError(errno.ENOENT, "the folder of the domain is gone", name)

    def _make_in(self, folder: int, domain: str, due: list[_Writing], spread: Spread) -> None:
        begun: list[_Writing] = []
        try:
            reached = self._revisions.current(domain)
            for one in due:
                # A deletion of nothing is no change.
                if isinstance(one.write, base.Set) or _names_of(folder, one.write.key):
                    one.revision = self._revisions.begin(domain)
                    begun.append(one)
                    reached = one.revision
                one.reached = reached
            sets = [one for one in begun if isinstance(one.write, base.Set)]
            if begun:
                self._cover(begun[-1].revision, sets)
            for _ in spread(lambda one: self._prepare(folder, one), sets):
                pass
            for one in due:
                if one.outcome is not None:
                    continue
                with self._failing(one):
                    if isinstance(one.write, base.Set):
                        self._place(folder, domain, one, one.write)
                    else:
                        self._remove(folder, domain, one, one.write)
            if any(one.change is not None for one in begun):
                files.sync(folder)
        finally:
            # What was made counts, even if it failed after that.
            for one in begun:
                self._revisions.end(domain, one.revision, one.change)

    def _cover(self, revision: int, sets: list[_Writing]) -> None:
        """Makes sure that no revision is given again. Where there is no room for that, sets fail alone."""
        try:
            self._high_water.cover(revision)
        except files.SyncError:
            raise
        except OSError as error:
            if error.errno not in files.NO_ROOM:
                raise
            for one in sets:
                one.outcome = self._meaning(error)
            sets.clear()

    def _prepare(self, folder: int, one: _Writing) -> None:
        """Writes a set's temporary file. In any thread."""
        with self._failing(one):
            key, value, *_ = cast("base.Set", one.write)
            name = name_for_writing(folder, key)
            data = encode(key, value, shortened=is_shortened(name))
            prepared = files.prepared(folder, name, data, modified=1000 * one.revision)
            one.temporary = (name, *one.prepared.enter_context(prepared))

    def _place(self, folder: int, domain: str, one: _Writing, write: base.Set) -> None:
        name, temporary, stored = cast("tuple[str, str, Stored]", one.temporary)
        with one.prepared:
            # One before it may have found that the disk cannot be trusted.
            self._health.check_usable()
            # Once more, since waiting for the disk leaves time to edit the file.
            self._check(domain, write)
            with self._locks.of_domain(domain):
                files.place(folder, temporary, name)
        self._revisions.written(domain, write.key, one.revision, stored)
        one.change = base.Change(write.key, one.revision, write.value)
        one.outcome = base.Written(one.revision)

    def _remove(self, folder: int, domain: str, one: _Writing, write: base.Delete) -> None:
        self._health.check_usable()
        removed = False
        if one.revision:
            with self._locks.of_domain(domain):
                found = [files.remove(folder, name) for name in _names_of(folder, write.key)]
            removed = any(found)
        if removed:
            self._revisions.written(domain, write.key, one.revision, None)
            one.change = base.Change(write.key, one.revision, None)
            one.outcome = base.Deleted(existed=True, revision=one.revision)
        else:
            one.outcome = base.Deleted(existed=False, revision=one.reached)

    def _check(self, domain: str, write: Write) -> None:
        """Raises ConditionFailedError. The key's lock is held."""
        # No entry expires here; but for what keeps a time to live there has to be one.
        keeps = isinstance(write, base.Set) and write.ttl is base.KEEP
        if write.condition is None and not keeps:
            return
        current = self._current(domain, write.key)
        if write.condition not in (None, current) or (keeps and current == base.ABSENT):
            raise ConditionFailedError(current)

    @contextlib.contextmanager
    def _failing(self, one: _Writing) -> Iterator[None]:
        """Keeps what is raised as the write's outcome."""
        try:
            yield
        except OSError as error:
            one.outcome = self._meaning(error)
        except Exception as error:
            one.outcome = error

    def _meaning(self, error: OSError) -> Exception:
        # It may be tried once more.
        return error if isinstance(error, FileNotFoundError) else self._health.meaning(error)


def _names_of(folder: int, key: str) -> list[str]:
    """Returns the files of a key: our own name last, since until it is gone, it hides the other."""
    names = (foreign_name(key), file_name(key))
    return [name for name in names if name is not None and files.is_file(folder, name)]
