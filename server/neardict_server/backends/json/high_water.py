"""A revision that none given so far exceeds, kept on disk: what a restart counts on from."""

import logging
import re
import threading

from . import files

logger = logging.getLogger(__name__)

NAME = ".neardict.revision"
# How far the kept one may run ahead, in microseconds: it is written about once in this time.
AHEAD = 1_000_000
# Less than 2**53 by far.
_REVISION = re.compile(rb"[0-9]{1,16}\s*")


class HighWater:
    """Keeps revisions increasing when the clock went back while the server was down.

    The times of the files cannot: those of deleted entries are gone, and a million take seconds to read.
    """

    def __init__(self, tree: files.Tree) -> None:
        """Raises OSError."""
        self._tree = tree
        self._lock = threading.Lock()
        self.kept = self._read()

    def cover(self, revision: int) -> None:
        """Makes sure, durably, that a restart counts on from this revision or a later one. Raises OSError."""
        if revision <= self.kept:
            return
        with self._lock:
            if revision > self.kept:
                self._write(revision + AHEAD)

    def cover_if_room(self, revision: int) -> None:
        """Does so, but on a full disk, where entries must be readable and removable. Raises other OSError."""
        try:
            self.cover(revision)
        except files.SyncError:
            raise
        except OSError as error:
            if error.errno not in files.NO_ROOM:
                raise

    def settle(self, revision: int) -> None:
        """Keeps this revision, when no other follows. Raises OSError."""
        with self._lock:
            if revision != self.kept:
                self._write(revision)

    def _read(self) -> int:
        with self._tree.open_root() as root:
            stored = files.read(root, NAME)
        if stored is None:
            return 0
        if not _REVISION.fullmatch(stored.data):
            logger.warning("%s is damaged: revisions go on from the clock's time", self._tree.root / NAME)
            return 0
        return int(stored.data)

    def _write(self, revision: int) -> None:
        with self._tree.open_root() as root:
            text = f"{revision}\n".encode()
            with files.prepared(root, NAME, text, modified=1000 * revision) as (temporary, _):
                files.place(root, temporary, NAME)
            files.sync(root)
        self.kept = revision
