"""Finds out, before anything is stored, whether a file system can keep keys apart."""

import contextlib
import logging
import os
from pathlib import Path

from . import files
from .names import MAX_NAME_BYTES

logger = logging.getLogger(__name__)

_NAME = ".neardict-probe-\u00e9.tmp"
# Other names to us; the same name to a file system that ignores case or the form of Unicode.
_TWINS = (_NAME.upper(), _NAME.replace("\u00e9", "e\u0301"))
_TIME = 1_700_000_000_123_457_000  # nanoseconds, a whole number of microseconds


def probe(folder: int, path: Path) -> int:
    """Returns the file system's present time, in nanoseconds since the epoch.

    Raises ValueError if keys would overwrite each other, OSError if the folder cannot be written to.
    """
    if os.fpathconf(folder, "PC_NAME_MAX") < MAX_NAME_BYTES:
        raise ValueError(
            f"{path} is on a file system that lacks names of {MAX_NAME_BYTES} bytes: put root_dir on another"
        )
    file = os.open(_NAME, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        os.utime(file, ns=(_TIME, _TIME))
        status = os.fstat(file)
        files.sync(folder)
        if any(files.is_file(folder, twin) for twin in _TWINS):
            raise ValueError(
                f"{path} is on a file system that takes names which differ only in case, or in how Unicode "
                "is composed, for the same: keys would overwrite each other; put root_dir on another"
            )
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(_NAME, dir_fd=folder)
    if status.st_mtime_ns != _TIME:
        logger.warning("%s rounds the times of files: a restart changes the revisions of entries", path)
    return status.st_ctime_ns
