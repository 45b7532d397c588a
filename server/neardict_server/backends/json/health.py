"""Whether the files can be used and trusted, and what errors of the system mean."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import BackendUnavailableError, StorageError, StorageFullError
from . import files

logger = logging.getLogger(__name__)


class Health:
    """May be used from any thread."""

    def __init__(self, root: Path, backend: str = "") -> None:
        """`backend` is its name, for messages."""
        self._root = root
        self._root_dir = f"root_dir of the backend `{backend}`" if backend else "root_dir"
        self._broken: str | None = None

    def check_usable(self) -> None:
        """Raises BackendUnavailableError if nothing may be written any more."""
        if self._broken is not None:
            raise BackendUnavailableError(self._broken)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises a StorageError for an error of the system."""
        try:
            yield
        except OSError as error:
            raise self.meaning(error) from error

    def meaning(self, error: OSError) -> StorageError:
        """Returns the error to raise in place of one of the system."""
        if isinstance(error, files.SyncError):
            # The page cache may now hold what the disk does not: nothing written from here on could be
            # trusted, until a restart.
            self._broken = (
                f"an fsync failed, which ended writing to {self._root_dir}: check the disk, then restart"
            )
            logger.error("fsync failed below %s", self._root, exc_info=error)
            return BackendUnavailableError(self._broken)
        if error.errno in files.NO_ROOM:
            return StorageFullError("the file system of root_dir is full: free some room")
        logger.warning("%s cannot be used: %s", self._root, error)
        return BackendUnavailableError(
            f"{self._root_dir} cannot be used now ({os.strerror(error.errno or 0)}): check that it is there, "
            "that the server owns it and may write to it; the server's log tells more"
        )
