"""Keeps entries in one SQLite file: durable when acknowledged, with nothing to set up.

One writer thread takes whatever writes have gathered while the last commit was on its way to the
disk, and commits them together; each is acknowledged after its commit. Reads run on the event loop,
on a connection of their own: in WAL mode they neither wait for the writer nor see uncommitted data. Those
of a batch that writes too are part of its transaction.
"""

from .backend import SqliteBackend
from .database import SCHEMA_VERSION

__all__ = ["SCHEMA_VERSION", "SqliteBackend"]
