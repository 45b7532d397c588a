"""What is registered in this process, and how a program that has just started would have it."""

from collections.abc import Iterator
from contextlib import contextmanager

from neardict import registry


def forget() -> None:
    """Registers nothing any more, as after a restart."""
    registry.BY_CLASS.clear()
    registry.BY_NAME.clear()
    registry._warned.clear()


@contextmanager
def forgotten() -> Iterator[None]:
    """Begins with nothing registered, and ends with what was."""
    saved = dict(registry.BY_CLASS), dict(registry.BY_NAME)
    forget()
    try:
        yield
    finally:
        forget()
        registry.BY_CLASS.update(saved[0])
        registry.BY_NAME.update(saved[1])
