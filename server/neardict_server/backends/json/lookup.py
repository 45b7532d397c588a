"""Finds the file of a key, and the key of a file, in an open folder."""

import errno
import logging
from typing import NamedTuple

from ...errors import CorruptEntryError
from .. import base
from . import files
from .format import FormatError, decode, key_in
from .names import file_name, folder_names, foreign_name, is_shortened, key_of

logger = logging.getLogger(__name__)

# What concerns one file, while others can be read.
_FILE_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EIO})


class Found(NamedTuple):
    name: str
    stored: files.Stored


# Stands for a file that cannot be read: it is no value either.
UNREADABLE = Found("", files.Stored(b"", 0, 0))


def find(folder: int, domain: str, key: str) -> Found | None:
    """Returns the key's file. Raises CorruptEntryError if it cannot be read, and OSError."""
    for name in (file_name(key), foreign_name(key)):
        if name is not None and (stored := _read(folder, domain, name)) is not None:
            return Found(name, stored)
    return None


def name_for_writing(folder: int, key: str) -> str:
    """Returns the name that the key's file has, or is to have. Raises OSError."""
    name, foreign = file_name(key), foreign_name(key)
    if foreign is not None and not files.is_file(folder, name) and files.is_file(folder, foreign):
        return foreign
    return name


def key_of_file(folder: int, domain: str, name: str) -> str | None:
    """Returns the key that a file stands for, None if for none. Raises OSError.

    Raises CorruptEntryError or FormatError if only the file knows its key, and does not tell.
    """
    key = key_of(name)
    if key is not None:
        # Our own name for the key hides another.
        return key if name == file_name(key) or not files.is_file(folder, file_name(key)) else None
    if not is_shortened(name) or (stored := _read(folder, domain, name)) is None:
        return None
    key = key_in(stored.data)
    return key if name == file_name(key) else None


def value_of(key: str, found: Found) -> base.Value:
    """Returns the value that the key's file holds. Raises FormatError if it holds none."""
    return decode(key, found.stored.data, shortened=is_shortened(found.name))


def change_of(key: str, found: Found | None, revision: int) -> base.Change:
    """Returns the change of a key whose file was found so."""
    if found is None:
        return base.Change(key, revision, None)
    try:
        return base.Change(key, revision, value_of(key, found))
    except FormatError:
        # There is an entry, but no value: whoever wants it has to ask, and is told what is wrong with it.
        return base.Change(key, revision, "", told=False)


def path(domain: str, name: str) -> str:
    """Returns where a file is, for people."""
    return "/".join([*folder_names(domain), name])


def _read(folder: int, domain: str, name: str) -> files.Stored | None:
    try:
        return files.read(folder, name)
    except OSError as error:
        if error.errno not in _FILE_ERRORS:
            raise
        raise CorruptEntryError(
            f"{path(domain, name)} cannot be read ({error.strerror}): check its owner, its mode and the disk"
        ) from error
