"""Folders and files below a root: symbolic links are not followed, writes are atomic and durable.

Folders are passed as open descriptors, so that nobody can swap a folder for a link between the check
and the use. What is not a regular file is no file here.
"""

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening gives for links, sockets and the like.
_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EMLINK})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

_TEMPORARY_PREFIX = ".neardict-"
_TEMPORARY_SUFFIX = ".tmp"
# Tells the files of this process from those that one before it left behind.
_RUN = f"{_TEMPORARY_PREFIX}{secrets.token_hex(6)}-"


class SyncError(OSError):
    """fsync failed: what was written before may be lost, though reading it back would not tell."""


class Stored(NamedTuple):
    """A file's contents, and its times in nanoseconds since the epoch."""

    data: bytes
    modified: int
    changed: int


class Tree:
    """The folders below a root, which itself may be reached through links."""

    def __init__(self, root: Path) -> None:
        """Creates the root if there is none. Raises OSError."""
        self.root = root
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            with _opened(os.open(folder.parent, _FOLDER)) as parent:
                sync(parent)
        self._identity = _identity(root.stat())
        self._creating = threading.Lock()

    @contextlib.contextmanager
    def open_root(self) -> Iterator[int]:
        """Opens the root. Raises OSError, also if it is not the folder that it was."""
        with _opened(self._open_root()) as folder:
            yield folder

    @contextlib.contextmanager
    def open(self, names: Sequence[str]) -> Iterator[int | None]:
        """Opens a folder below the root; None if there is none. Raises OSError."""
        folder = self._open_root()
        try:
            for name in names:
                parent, folder = folder, -1
                folder = _open_child(parent, name)
                if folder < 0:
                    yield None
                    return
            yield folder
        finally:
            if folder >= 0:
                os.close(folder)

    def create(self, names: Sequence[str]) -> None:
        """Makes sure that a folder exists and survives a crash. Raises OSError."""
        # One at a time: to find a folder that another thread is creating does not make it durable.
        with self._creating:
            folder = self._open_root()
            try:
                for name in names:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder)
                    sync(folder)
                    child = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    os.close(folder)
                    folder = child
            finally:
                os.close(folder)

    def _open_root(self) -> int:
        folder = os.open(self.root, _FOLDER)
        if _identity(os.fstat(folder)) != self._identity:
            os.close(folder)
            raise OSError(errno.ESTALE, "root_dir was replaced by another folder: restart the server")
        return folder


def read(folder: int, name: str) -> Stored | None:
    """Returns a file, or None if there is none. Raises OSError."""
    try:
        file = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    with _opened(file):
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        parts = []
        # One byte more than there was, so that a file which did not grow takes two calls.
        while part := os.read(file, status.st_size + 1):
            parts.append(part)
        return Stored(b"".join(parts), status.st_mtime_ns, status.st_ctime_ns)


def is_file(folder: int, name: str) -> bool:
    """Returns whether there is a file. Raises OSError."""
    return _permissions(folder, name) is not None


@contextlib.contextmanager
def prepared(folder: int, name: str, data: bytes, *, modified: int) -> Iterator[tuple[str, Stored]]:
    """Writes a temporary file, durably, for the body to `place`; removes it if the body fails.

    It has the permissions of the file `name`, if there is one. `modified` is its time, which a coarse
    file system may round. Raises OSError.
    """
    temporary = _temporary()
    file = os.open(temporary, _CREATE, 0o666, dir_fd=folder)
    try:
        with _opened(file):
            if (permissions := _permissions(folder, name)) is not None:
                os.fchmod(file, permissions)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.utime(file, ns=(modified, modified))
            status = os.fstat(file)
            _sync_file(file)
        yield temporary, Stored(data, status.st_mtime_ns, status.st_ctime_ns)
    except BaseException:
        _discard(folder, temporary)
        raise


def place(folder: int, temporary: str, name: str) -> None:
    """Gives a temporary file its name, in place of what had it. Lasting after `sync` of the folder.

    Raises OSError.
    """
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove(folder: int, name: str) -> bool:
    """Removes a file; returns whether there was one. Lasting after `sync` of the folder. Raises OSError."""
    # By way of a temporary name, which tells those who watch the folder that it was us.
    temporary = _temporary()
    try:
        os.rename(name, temporary, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        # The folder has no room for the longer name, but what frees room must not fail for that.
        os.unlink(name, dir_fd=folder)
    else:
        _discard(folder, temporary)
    return True


def sync(descriptor: int) -> None:
    """Waits until the disk has what was written. Raises SyncError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise SyncError(error.errno, error.strerror) from error


def names(folder: int) -> list[str]:
    """Returns the names of all files of a folder. Raises OSError."""
    with os.scandir(folder) as found:
        return [item.name for item in found if item.is_file(follow_symlinks=False)]


def is_own_temporary(name: str) -> bool:
    """Returns whether a temporary file of this process has the name."""
    return name.startswith(_RUN)


def discard_leftovers(folder: int, found: Sequence[str]) -> None:
    """Removes, of the names that were found, the temporary files that a killed process left."""
    for name in found:
        if (
            name.startswith(_TEMPORARY_PREFIX)
            and name.endswith(_TEMPORARY_SUFFIX)
            and not name.startswith(_RUN)
        ):
            _discard(folder, name)


def _temporary() -> str:
    return f"{_RUN}{secrets.token_hex(8)}{_TEMPORARY_SUFFIX}"


def _permissions(folder: int, name: str) -> int | None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    return mode & 0o777 if stat.S_ISREG(mode) else None


def _sync_file(file: int) -> None:
    try:
        sync(file)
    except SyncError as error:
        if error.errno in NO_ROOM:
            # Some file systems look for room only now. Nothing but this file is concerned.
            raise OSError(error.errno, error.strerror) from error
        raise


def _discard(folder: int, temporary: str) -> None:
    # If that cannot be done, a later process will.
    with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=folder)


def _open_child(parent: int, name: str) -> int:
    """Closes the parent and returns its folder of this name, -1 if there is none."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return -1  # a link is no folder to O_NOFOLLOW
    finally:
        os.close(parent)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
