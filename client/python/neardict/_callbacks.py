"""What may be given as a callback: a plain function, since nobody awaits what it returns."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from .errors import InvalidArgumentError, InvalidTypeError


def check(name: str, callback: Any) -> None:
    """Raises InvalidTypeError for what cannot be called, InvalidArgumentError for what would be awaited."""
    if not callable(callback):
        raise InvalidTypeError(f"{name} must be a function, and this is a {type(callback).__name__}")
    if is_awaited(callback):
        raise InvalidArgumentError(f"{name} must be a plain function: one that has to wait can start a task")


def is_awaited(function: Any) -> bool:
    """Returns whether what the function returns is to be awaited, however it is wrapped."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object that can be called has its function in its class.
    method = getattr(type(function), "__call__")  # noqa: B004,B009  # not to see whether it can
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)
