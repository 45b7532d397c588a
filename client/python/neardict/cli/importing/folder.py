"""A json_db folder as a source of entries: each sub-folder is a part of the domain, each file a key."""

import os
from collections.abc import Iterator
from pathlib import Path

from . import contents, names
from .found import Found, Ignored, Piece, Refused

# White space can make a file that much larger than the value in it.
_GROWTH = 32
# A domain has at most 255 bytes, the dots between its parts included.
_MAX_PARTS = 128


class Folder:
    """Reads one file at a time, in no particular order."""

    def __init__(self, root: Path, *, prefix: str, max_value_bytes: int) -> None:
        """`prefix` is put before the domains that the sub-folders name."""
        self._root = root
        self._prefix = prefix
        self._max_bytes = _GROWTH * max_value_bytes

    def count(self) -> int:
        """Returns about how many pieces there are."""
        return sum(len(files) for _, _, files in os.walk(self._root))

    def pieces(self) -> Iterator[Piece]:
        """Yields what there is, once; raises nothing that one file could cause."""
        parts = [self._prefix] if self._prefix else []
        yield from self._in(self._root, parts)

    def _in(self, folder: Path, parts: list[str]) -> Iterator[Piece]:
        folders: list[Path] = []
        try:
            with os.scandir(folder) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        folders.append(folder / item.name)
                    else:
                        yield self._file(folder / item.name, ".".join(parts))
        except OSError as error:
            yield Refused(self._origin(folder), f"cannot be read: {error.strerror}")
        for inner in folders:
            yield from self._sub_folder(inner, parts)

    def _sub_folder(self, folder: Path, parts: list[str]) -> Iterator[Piece]:
        part = names.domain_part(folder.name)
        if len(parts) > _MAX_PARTS:
            yield Refused(self._origin(folder), "is nested deeper than a domain can have parts")
        elif folder.name.startswith("."):
            yield Ignored(self._origin(folder), "a hidden folder")
        elif part is None:
            yield Refused(
                self._origin(folder),
                "could be more than one part of a domain: import it by itself, with --domain",
            )
        else:
            yield from self._in(folder, [*parts, part])

    def _file(self, path: Path, domain: str) -> Piece:
        origin = self._origin(path)
        name = path.name
        if not name.endswith(names.SUFFIX):
            if name.startswith("."):
                return Ignored(origin, "a hidden file")
            return Refused(origin, "is no .json file")
        if not domain:
            return Refused(origin, "is in no sub-folder, which would name its domain: give it with --domain")
        key = names.key_of(name)
        if key is None and not names.is_shortened(name):
            return Refused(origin, "has a name that no key has")
        try:
            if key is not None and (own := names.file_name(key)) != name and (path.parent / own).exists():
                return Refused(
                    origin, "stands for a key that has another file, which counts: remove one of them"
                )
            if not path.is_file():
                return Refused(origin, "is no regular file")
            if path.stat().st_size > self._max_bytes:
                return Refused(origin, "is too large for any value that the service takes")
            found = contents.read(key, path.read_bytes())
        except contents.ContentsError as error:
            return Refused(origin, str(error))
        except OSError as error:
            return Refused(origin, f"cannot be read: {error.strerror}")
        if key is None or found.key not in (None, key):
            if found.key is None or names.file_name(found.key) != name:
                return Refused(origin, "belongs to another key than its name says: give it back its name")
            key = found.key
        return Found(origin, domain, key, found.value, found.conversion)

    def _origin(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()
