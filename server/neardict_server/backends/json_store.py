"""Entries in files: the operations of the json backend, for the threads that it runs them in."""

import contextlib
import errno
import functools
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackendUnavailableError, ConditionFailedError, CorruptEntryError, StorageFullError
from ..exclusive import ExclusiveLock
from . import base
from . import json_files as files
from .json_format import FormatError, encode
from .json_high_water import HighWater
from .json_lookup import UNREADABLE, Found, change_of, find, key_of_file, name_for_writing, path, value_of
from .json_names import SUFFIX, file_name, folder_names, foreign_name, is_shortened, key_of
from .json_probe import probe
from .json_revisions import Revisions, Tell

logger = logging.getLogger(__name__)

# So many locks serve all keys, and so many all domains: those that share one merely wait for each other.
_STRIPES = 64


class UnknownKeyError(Exception):
    """Only the file that is gone, or cannot be read, knew its key."""


@dataclass
class _Write:
    """A write under way: `change` once it has been made."""

    revision: int
    change: base.Change | None = None


class JsonStore:
    """Any method may be called from any thread, until `close`; `tree` and `revisions` are for the feed.

    Writes of one key follow each other; writes of different keys share nothing but short moments, so
    that their waits for the disk overlap. Locks are taken in the order key, domain.
    """

    def __init__(self, root: Path, clock: base.Clock, tell: Tell) -> None:
        """Raises OSError if the folder cannot be used or is in use, ValueError if it cannot keep keys.

        `tell` is as Revisions has it.
        """
        self.tree = files.Tree(root)
        self._owned = ExclusiveLock(root / ".neardict.lock")
        try:
            with self.tree.open_root() as folder:
                opened = probe(folder, root)
                files.discard_leftovers(folder, files.names(folder))
            self._high_water = HighWater(self.tree)
            started = max(clock(), self._high_water.kept)
            self._high_water.cover_if_room(started)
        except BaseException:
            self._owned.close()
            raise
        self.revisions = Revisions(started, opened, clock, tell)
        self._keys = [threading.Lock() for _ in range(_STRIPES)]
        self._domains = [threading.Lock() for _ in range(_STRIPES)]
        # Domains whose folders were made to last by this process.
        self._lasting: set[str] = set()
        self._broken: str | None = None

    def get(self, domain: str, key: str) -> base.Lookup:
        # Before reading: what is written from here on may be seen, what is older must be.
        domain_revision = self.revisions.visible(domain)
        with self._translated():
            found = self._look(domain, key)
            revision = self.revisions.recall(domain, key, found and found.stored)
            if revision is None:
                # Either a write came in between or somebody edited the file; without writers we can tell.
                with self._key_lock(domain, key):
                    found, revision = self._settled(domain, key)
        if found is None:
            return base.Lookup(None, domain_revision)
        try:
            value = value_of(key, found)
        except FormatError as error:
            raise CorruptEntryError(f"{path(domain, found.name)} {error}") from None
        # Writes of one key become visible in order, so of this key there is none up to its revision.
        return base.Lookup(base.Entry(key, value, revision), max(domain_revision, revision))

    def set(self, domain: str, key: str, value: base.Value, condition: base.Condition) -> base.Written:
        with self._translated(), self._key_lock(domain, key):
            self._check_usable()
            self._check(domain, key, condition)
            try:
                return self._set(domain, key, value, condition)
            except FileNotFoundError:
                # Somebody removed the folder; make it again.
                self._lasting.discard(domain)
                return self._set(domain, key, value, condition)

    def delete(self, domain: str, key: str, condition: base.Condition) -> base.Deleted:
        with self._translated(), self._key_lock(domain, key):
            self._check_usable()
            self._check(domain, key, condition)
            with self.tree.open(folder_names(domain)) as folder:
                # Our own name last: until it is gone, it hides the other.
                names = [
                    name
                    for name in (foreign_name(key), file_name(key))
                    if folder is not None and name is not None and files.is_file(folder, name)
                ]
                if folder is not None and names:
                    with self._writing(domain) as write:
                        self._high_water.cover_if_room(write.revision)
                        with self._domain_lock(domain):
                            removed = [files.remove(folder, name) for name in names]
                        if any(removed):
                            self.revisions.written(domain, key, write.revision, None)
                            write.change = base.Change(key, write.revision, None)
                            files.sync(folder)
                            return base.Deleted(existed=True, revision=write.revision)
                return base.Deleted(existed=False, revision=self.revisions.current(domain))

    def listing(self, domain: str) -> tuple[int, list[str]]:
        """Returns the domain's revision and the names of its files, for `found`."""
        domain_revision = self.revisions.visible(domain)
        with self._translated(), self.tree.open(folder_names(domain)) as folder:
            if folder is None:
                return domain_revision, []
            # A name that is replaced while a folder is read may be met twice or not at all.
            with self._domain_lock(domain):
                names = files.names(folder)
            files.discard_leftovers(folder, names)
            return domain_revision, [name for name in names if name.endswith(SUFFIX)]

    def found(self, domain: str, names: list[str], *, prefix: str, entries: bool) -> Iterator[base.Entry]:
        """Yields the entries that are still there; with revision ABSENT those that cannot be read.

        Without `entries` only the keys are meant. Each step opens and closes what it needs.
        """
        for name in names:
            key = self._listed(domain, name)
            if key is None or not key.startswith(prefix):
                continue
            if not entries:
                yield base.Entry(key, "", base.ABSENT)
                continue
            try:
                entry = self.get(domain, key).entry
            except CorruptEntryError:
                entry = base.Entry(key, "", base.ABSENT)
            if entry is not None:
                yield entry

    def follow(self, domain: str, *, empty: bool) -> None:
        """Begins, or begins anew, to tell the changes of the domain, as Revisions says."""
        mark = self.revisions.follow(domain, empty=empty)
        # Clients learn of the mark, so it must not be given again; but that need not stop them.
        with contextlib.suppress(OSError):
            self._high_water.cover_if_room(mark)

    def notice(self, domain: str, name: str, *, gone: bool, patient: bool) -> bool:
        """Tells what somebody else did to a file, if it changed anything.

        `gone` says that he moved or removed it, though it may be back. If `patient`, returns False for a
        file that holds no value, and leaves it as it is: he may be writing it. Raises UnknownKeyError.
        """
        with self._translated():
            key = self._touched(domain, name)
            if key is None:
                return True
            with self._key_lock(domain, key):
                try:
                    found = self._look(domain, key)
                except CorruptEntryError:
                    found = UNREADABLE
                describe = functools.partial(change_of, key, found)
                if patient and found is not None and not describe(base.ABSENT).told:
                    return False
                self.revisions.notice(domain, key, found and found.stored, describe, gone=gone)
                return True

    def close(self) -> None:
        """Ends it, after the last operation has returned."""
        try:
            self._high_water.settle(self.revisions.latest())
        except OSError as error:
            logger.warning("the revision was not kept, and the next start counts on later: %s", error)
        self._owned.close()

    def _set(self, domain: str, key: str, value: base.Value, condition: base.Condition) -> base.Written:
        names = folder_names(domain)
        if domain not in self._lasting:
            self.tree.create(names)
            self._lasting.add(domain)
        with self.tree.open(names) as folder:
            if folder is None:
                raise FileNotFoundError(errno.ENOENT, "the folder of the domain is gone", names[-1])
            name = name_for_writing(folder, key)
            data = encode(key, value, shortened=is_shortened(name))
            with self._writing(domain) as write:
                self._high_water.cover(write.revision)
                modified = 1000 * write.revision
                with files.prepared(folder, name, data, modified=modified) as (temporary, stored):
                    # Once more, since waiting for the disk leaves time to edit the file.
                    self._check(domain, key, condition)
                    with self._domain_lock(domain):
                        files.place(folder, temporary, name)
                self.revisions.written(domain, key, write.revision, stored)
                write.change = base.Change(key, write.revision, value)
                files.sync(folder)
            return base.Written(write.revision)

    def _check(self, domain: str, key: str, condition: base.Condition) -> None:
        """Raises ConditionFailedError. The key's lock is held."""
        if condition is not None:
            _, current = self._settled(domain, key)
            if current != condition:
                raise ConditionFailedError(current)

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise BackendUnavailableError(self._broken)

    def _look(self, domain: str, key: str) -> Found | None:
        with self.tree.open(folder_names(domain)) as folder:
            return None if folder is None else find(folder, domain, key)

    def _settled(self, domain: str, key: str) -> tuple[Found | None, int]:
        """Returns what there is, and its revision, ABSENT for nothing. The key's lock is held."""
        found = self._look(domain, key)
        describe = functools.partial(change_of, key, found)
        return found, self.revisions.settle(domain, key, found and found.stored, describe)

    def _touched(self, domain: str, name: str) -> str | None:
        """Returns the key whose entry may have changed with a file, or None. Raises UnknownKeyError."""
        with self.tree.open(folder_names(domain)) as folder:
            if folder is None:
                return key_of(name)
            try:
                key = key_of_file(folder, domain, name)
            except (CorruptEntryError, FormatError) as error:
                raise UnknownKeyError from error
            if key is None and is_shortened(name):
                raise UnknownKeyError
            return key

    def _listed(self, domain: str, name: str) -> str | None:
        """Returns the key that a listed file stands for, if it stands for one."""
        key = key_of(name)
        if key is not None and name == file_name(key):
            return key
        with self._translated(), self.tree.open(folder_names(domain)) as folder:
            if folder is None:
                return None
            try:
                return key_of_file(folder, domain, name)
            except (CorruptEntryError, FormatError) as error:
                logger.warning("a listing leaves out a key that is known to its file only: %s", error)
                return None

    @contextlib.contextmanager
    def _writing(self, domain: str) -> Iterator[_Write]:
        """Yields a write for the body to make; what it has made counts, even if it fails after that."""
        write = _Write(self.revisions.begin(domain))
        try:
            yield write
        finally:
            self.revisions.end(domain, write.revision, write.change)

    def _key_lock(self, domain: str, key: str) -> threading.Lock:
        """Returns the lock of all writes of a key, and of telling who changed it."""
        return self._keys[hash((domain, key)) % _STRIPES]

    def _domain_lock(self, domain: str) -> threading.Lock:
        """Returns the lock of changes of a folder's names, and of listing them."""
        return self._domains[hash(domain) % _STRIPES]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except files.SyncError as error:
            # The page cache may now hold what the disk does not: nothing written from here on could be
            # trusted, until a restart.
            self._broken = "an fsync failed, which ended writing to root_dir: check the disk, then restart"
            logger.exception("fsync failed below %s", self.tree.root)
            raise BackendUnavailableError(self._broken) from error
        except OSError as error:
            if error.errno in files.NO_ROOM:
                raise StorageFullError("the file system of root_dir is full: free some room") from error
            logger.warning("%s cannot be used: %s", self.tree.root, error)
            raise BackendUnavailableError(
                f"root_dir cannot be used now ({os.strerror(error.errno or 0)}): check that it is there, "
                "that the server owns it and may write to it; the server's log tells more"
            ) from error
