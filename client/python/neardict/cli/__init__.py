"""The command `neardict`. Works as far as telling what to install when the extra `server` is missing."""

from ._entry import main

__all__ = ["main"]
