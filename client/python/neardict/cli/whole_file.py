"""A file that is written wholly or not at all."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Yields a function that writes. The file appears, durably, when the body ends without an error.

    Something at the path that is no file, such as a pipe, is written to directly. Raises OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as direct:
            yield direct.write
        return
    path = path.resolve()  # a link keeps pointing at the file
    temporary = path.with_name(f".neardict-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
