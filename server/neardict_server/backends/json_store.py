"""Entries in files: the operations of the json backend, for the threads that it runs them in."""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import BackendUnavailableError, ConditionFailedError, CorruptEntryError, StorageFullError
from ..exclusive import ExclusiveLock
from . import base
from . import json_files as files
from .json_format import FormatError, decode, encode, key_in
from .json_high_water import HighWater
from .json_names import SUFFIX, file_name, folder_names, foreign_name, is_shortened, key_of
from .json_probe import probe
from .json_revisions import Revisions

logger = logging.getLogger(__name__)

# So many locks serve all keys, and so many all domains: those that share one merely wait for each other.
_STRIPES = 64
# What concerns one file, while others can be read.
_FILE_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EIO})


class _Found(NamedTuple):
    name: str
    stored: files.Stored


class JsonStore:
    """Any method may be called from any thread, until `close`.

    Writes of one key follow each other; writes of different keys share nothing but short moments, so
    that their waits for the disk overlap. Locks are taken in the order key, domain.
    """

    def __init__(self, root: Path, clock: base.Clock) -> None:
        """Raises OSError if the folder cannot be used or is in use, ValueError if it cannot keep keys."""
        self._tree = files.Tree(root)
        self._owned = ExclusiveLock(root / ".neardict.lock")
        try:
            with self._tree.open_root() as folder:
                opened = probe(folder, root)
                files.discard_leftovers(folder, files.names(folder))
            self._high_water = HighWater(self._tree)
            started = max(clock(), self._high_water.kept)
            self._high_water.cover_if_room(started)
        except BaseException:
            self._owned.close()
            raise
        self._revisions = Revisions(started, opened, clock)
        self._keys = [threading.Lock() for _ in range(_STRIPES)]
        self._domains = [threading.Lock() for _ in range(_STRIPES)]
        # Domains whose folders were made to last by this process.
        self._lasting: set[str] = set()
        self._broken: str | None = None

    def get(self, domain: str, key: str) -> base.Lookup:
        # Before reading: what is written from here on may be seen, what is older must be.
        domain_revision = self._revisions.visible(domain)
        with self._translated():
            found, revision = self._look(domain, key, self._revisions.recall)
            if revision is None:
                # Either a write came in between or somebody edited the file; without writers we can tell.
                with self._key_lock(domain, key):
                    found, revision = self._look(domain, key, self._revisions.settle)
        if found is None or revision is None:
            return base.Lookup(None, domain_revision)
        try:
            value = decode(key, found.stored.data, shortened=is_shortened(found.name))
        except FormatError as error:
            raise CorruptEntryError(f"{_path(domain, found.name)} {error}") from None
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
            with self._tree.open(folder_names(domain)) as folder:
                # Our own name last: until it is gone, it hides the other.
                names = [
                    name
                    for name in (foreign_name(key), file_name(key))
                    if folder is not None and name is not None and files.is_file(folder, name)
                ]
                if folder is None or not names:
                    return base.Deleted(existed=False, revision=self._revisions.current(domain))
                with self._revision(domain) as revision:
                    self._high_water.cover_if_room(revision)
                    with self._domain_lock(domain):
                        for name in names:
                            files.remove(folder, name)
                    self._revisions.written(domain, key, revision, None)
                    files.sync(folder)
                return base.Deleted(existed=True, revision=revision)

    def listing(self, domain: str) -> tuple[int, list[str]]:
        """Returns the domain's revision and the names of its files, for `found`."""
        domain_revision = self._revisions.visible(domain)
        with self._translated(), self._tree.open(folder_names(domain)) as folder:
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

    def close(self) -> None:
        """Ends it, after the last operation has returned."""
        try:
            self._high_water.settle(self._revisions.latest())
        except OSError as error:
            logger.warning("the revision was not kept, and the next start counts on later: %s", error)
        self._owned.close()

    def _set(self, domain: str, key: str, value: base.Value, condition: base.Condition) -> base.Written:
        names = folder_names(domain)
        if domain not in self._lasting:
            self._tree.create(names)
            self._lasting.add(domain)
        with self._tree.open(names) as folder:
            if folder is None:
                raise FileNotFoundError(errno.ENOENT, "the folder of the domain is gone", names[-1])
            name = _name_for_writing(folder, key)
            data = encode(key, value, shortened=is_shortened(name))
            with self._revision(domain) as revision:
                self._high_water.cover(revision)
                with files.prepared(folder, name, data, modified=1000 * revision) as (temporary, stored):
                    # Once more, since waiting for the disk leaves time to edit the file.
                    self._check(domain, key, condition)
                    with self._domain_lock(domain):
                        files.place(folder, temporary, name)
                self._revisions.written(domain, key, revision, stored)
                files.sync(folder)
            return base.Written(revision)

    def _check(self, domain: str, key: str, condition: base.Condition) -> None:
        """Raises ConditionFailedError. The key's lock is held."""
        if condition is not None:
            _, current = self._look(domain, key, self._revisions.settle)
            if current != condition:
                raise ConditionFailedError(current or base.ABSENT)

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise BackendUnavailableError(self._broken)

    def _look(
        self, domain: str, key: str, revise: Callable[[str, str, files.Stored | None], int | None]
    ) -> tuple[_Found | None, int | None]:
        """Reads what there is, and returns it with what `revise` makes of it."""
        with self._tree.open(folder_names(domain)) as folder:
            found = None if folder is None else _find(folder, domain, key)
        return found, revise(domain, key, None if found is None else found.stored)

    def _listed(self, domain: str, name: str) -> str | None:
        """Returns the key that a listed file stands for, if it stands for one."""
        key = key_of(name)
        if key is not None and name == file_name(key):
            return key
        with self._translated(), self._tree.open(folder_names(domain)) as folder:
            if folder is None:
                return None
            if key is not None:
                # Our own name for the key hides this one.
                return None if files.is_file(folder, file_name(key)) else key
            if not is_shortened(name):
                return None
            try:
                stored = _read(folder, domain, name)
                key = None if stored is None else key_in(stored.data)
            except (CorruptEntryError, FormatError) as error:
                logger.warning("a listing leaves out a key that is known to its file only: %s", error)
                return None
            return key if key is not None and name == file_name(key) else None

    @contextlib.contextmanager
    def _revision(self, domain: str) -> Iterator[int]:
        """Yields the revision of the write that the body makes visible, or fails to."""
        revision = self._revisions.begin(domain)
        try:
            yield revision
        finally:
            self._revisions.end(domain, revision)

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
            logger.exception("fsync failed below %s", self._tree.root)
            raise BackendUnavailableError(self._broken) from error
        except OSError as error:
            if error.errno in files.NO_ROOM:
                raise StorageFullError("the file system of root_dir is full: free some room") from error
            logger.warning("%s cannot be used: %s", self._tree.root, error)
            raise BackendUnavailableError(
                f"root_dir cannot be used now ({os.strerror(error.errno or 0)}): check that it is there, "
                "that the server owns it and may write to it; the server's log tells more"
            ) from error


def _name_for_writing(folder: int, key: str) -> str:
    """Returns the name that the key's file has, or is to have."""
    name, foreign = file_name(key), foreign_name(key)
    if foreign is not None and not files.is_file(folder, name) and files.is_file(folder, foreign):
        return foreign
    return name


def _find(folder: int, domain: str, key: str) -> _Found | None:
    for name in (file_name(key), foreign_name(key)):
        if name is not None and (stored := _read(folder, domain, name)) is not None:
            return _Found(name, stored)
    return None


def _read(folder: int, domain: str, name: str) -> files.Stored | None:
    try:
        return files.read(folder, name)
    except OSError as error:
        if error.errno not in _FILE_ERRORS:
            raise
        raise CorruptEntryError(
            f"{_path(domain, name)} cannot be read ({error.strerror}): check its owner, its mode and the disk"
        ) from error


def _path(domain: str, name: str) -> str:
    return "/".join([*folder_names(domain), name])
