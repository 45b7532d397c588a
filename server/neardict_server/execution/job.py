"""One operation of a stream, from when it was received until its result has been sent."""

from dataclasses import dataclass


@dataclass(slots=True)
class Job:
    """`deadline` is when it must have begun, by the event loop's clock. `size` is in bytes."""

    number: int
    deadline: float
    size: int = 0
    # Whether the value that it reads is wanted compressed, if that pays.
    compressed: bool = False
    cancelled: bool = False


class CancelledJobError(Exception):
    """Nobody waits for the operation any more, and it has not begun."""


class LateJobError(Exception):
    """The operation has not begun in time."""
