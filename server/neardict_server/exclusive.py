"""Keeps a second server away from data that one server must own alone."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Self


class InUseError(OSError):
    """Another process holds the lock."""


class ExclusiveLock:
    """An advisory lock on a file, held from construction to `close`, or until the process ends.

    The kernel releases it however the process dies, so a lock file that is left over means nothing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if owner == str(os.getpid()):
                raise InUseError(f"{path.parent} is in use by another backend of this server") from None
            raise InUseError(
                f"{path.parent} is in use by another neardict server (process {owner or 'unknown'}): "
                "stop it, or give this one another folder"
            ) from None
        # For the message above only, and so not worth failing for on a full disk.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
