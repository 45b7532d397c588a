"""Whether the interpreter exits: then its threads have stopped, and nobody sends or reads anything.

An atexit handler runs before that. What is left are `__del__` methods, and generators that are finalized.
"""

from sys import is_finalizing

from .errors import ClosedError

__all__ = ["check", "is_finalizing"]

MESSAGE = (
    "the interpreter is exiting and neardict's threads have stopped, so that nothing can be read or written "
    "any more, as from __del__: do it before, in a `with` block, or in a function registered with atexit"
)


def check() -> None:
    """Raises ClosedError if the interpreter exits."""
    if is_finalizing():
        raise ClosedError(MESSAGE)
