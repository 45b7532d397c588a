"""Entries in files: the operations of the json backend, for the threads that it runs them in."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import CorruptEntryError, StorageError
from ...exclusive import ExclusiveLock
from .. import base
from . import files
from .format import FormatError
from .health import Health
from .high_water import HighWater
from .locks import Locks
from .lookup import UNREADABLE, Found, change_of, find, key_of_file, path, value_of
from .names import SUFFIX, file_name, folder_names, is_shortened, key_of
from .probe import probe
from .revisions import Revisions, Tell
from .writes import Spread, Writes

logger = logging.getLogger(__name__)


class UnknownKeyError(Exception):
    """Only the file that is gone, or cannot be read, knew its key."""


class JsonStore:
    """Any method may be called from any thread, until `close`; `tree` and `revisions` are for the feed.

    Writes of one key follow each other; writes of different keys share nothing but short moments, so
    that their waits for the disk overlap.
    """

    def __init__(self, root: Path, clock: base.Clock, tell: Tell, name: str = "") -> None:
        """Raises OSError if the folder cannot be used or is in use, ValueError if it cannot keep keys.

        `tell` is as Revisions has it; `name` is the backend's.
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
        self._locks = Locks()
        self._health = Health(root, name)
        self._writes = Writes(
            self.tree,
            self._locks,
            self.revisions,
            self._high_water,
            self._health,
            lambda domain, key: self._settled(domain, key)[1],
        )

    def get(self, domain: str, key: str) -> base.Lookup:
        # Before reading: what is written from here on may be seen, what is older must be.
        domain_revision = self.revisions.visible(domain)
        with self._health.translated():
            found = self._look(domain, key)
            revision = self.revisions.recall(domain, key, found and found.stored)
            if revision is None:
                # Either a write came in between or somebody edited the file; without writers we can tell.
                with self._locks.of_key(domain, key):
                    found, revision = self._settled(domain, key)
        if found is None:
            return base.Lookup(None, domain_revision)
        try:
            value = value_of(key, found)
        except FormatError as error:
            raise CorruptEntryError(f"{path(domain, found.name)} {error}") from None
        # Writes of one key become visible in order, so of this key there is none up to its revision.
        return base.Lookup(base.Entry(key, value, revision), max(domain_revision, revision))

    def execute(
        self, domain: str, operations: Sequence[base.Operation], spread: Spread = map
    ) -> list[base.Outcome]:
        """Carries out operations as base.Batches says; `spread` says how many wait for the disk at a time."""
        outcomes: list[base.Outcome] = []
        # Writes that are made together.
        writes: dict[str, base.Set | base.Delete] = {}
        for operation in operations:
            if writes and (isinstance(operation, base.Get) or operation.key in writes):
                outcomes += self._writes.make(domain, [*writes.values()], spread)
                writes.clear()
            if not isinstance(operation, base.Get):
                writes[operation.key] = operation
                continue
            try:
                outcomes.append(self.get(domain, operation.key))
            except StorageError as error:
                outcomes.append(error)
        if writes:
            outcomes += self._writes.make(domain, [*writes.values()], spread)
        return outcomes

    def listing(self, domain: str) -> tuple[int, list[str]]:
        """Returns the domain's revision and the names of its files, for `found`."""
        domain_revision = self.revisions.visible(domain)
        with self._health.translated(), self.tree.open(folder_names(domain)) as folder:
            if folder is None:
                return domain_revision, []
            # A name that is replaced while a folder is read may be met twice or not at all.
            with self._locks.of_domain(domain):
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
        with self._health.translated():
            key = self._touched(domain, name)
            if key is None:
                return True
            with self._locks.of_key(domain, key):
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
        with self._health.translated(), self.tree.open(folder_names(domain)) as folder:
            if folder is None:
                return None
            try:
                return key_of_file(folder, domain, name)
            except (CorruptEntryError, FormatError) as error:
                logger.warning("a listing leaves out a key that is known to its file only: %s", error)
                return None
