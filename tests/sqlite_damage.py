"""Damages a database file as a bad disk does."""

import sqlite3
from pathlib import Path


def damage(path: Path, *, index: bool = False) -> None:
    """Overwrites a page in the middle of the entries, or of the index of their keys."""
    with sqlite3.connect(path) as connection:
        size: int = connection.execute("PRAGMA page_size").fetchone()[0]
        root: int = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'entries' AND type = ?",
            ("index" if index else "table",),
        ).fetchone()[0]
    connection.close()
    content = bytearray(path.read_bytes())
    top = content[(root - 1) * size : root * size]
    # An interior page has a pointer in front of each of its cells, which are in the order of the keys.
    assert top[0] == (2 if index else 5)
    middle = 12 + 2 * (int.from_bytes(top[3:5]) // 2)
    cell = int.from_bytes(top[middle : middle + 2])
    page = int.from_bytes(top[cell : cell + 4])
    content[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(content)
