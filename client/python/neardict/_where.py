"""Says what was raised, without its text, which could quote a value."""

from __future__ import annotations


def where(error: BaseException) -> str:
    """Returns the type of the error, and the file and line that raised it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    return f"{type(error).__name__} at {at}"
