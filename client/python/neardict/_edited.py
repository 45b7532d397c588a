"""What an edit stores: never by accident something else than the value that was edited."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from typing import TYPE_CHECKING, Any

from ._callbacks import is_awaited
from .errors import InvalidTypeError, UnsupportedValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ATOMS = (str, int, float, bool, bytes, type(None), enum.Enum)


class Change:
    """The function of an edit, with what it may return.

    A function that was given something that it can change in place is to do so and return None, or to return
    a new value of the same type. Whatever else it returns is most likely a by-product: what `pop` took out,
    or a part of the value. With `replace` what it returns is stored, whatever it is, None too.
    """

    def __init__(self, function: Callable[[Any], Any], *, replace: bool = False) -> None:
        """Raises InvalidTypeError for what is no plain function."""
        if not callable(function):
            raise InvalidTypeError(f"edit takes a function, not a {type(function).__name__}")
        if is_awaited(function):
            raise InvalidTypeError(
                "edit takes a plain function, which does not wait: the value may be written by others "
                "meanwhile. Await before the edit, or use it as a block"
            )
        self._function = function
        self._replace = replace

    def apply(self, key: str, value: Any) -> Any:
        """Returns what is to be stored in place of the value, which the function may change.

        Raises UnsupportedValueError, a TypeError, if that is refused.
        """
        before = () if self._replace else tuple(_parts(value))
        changed = self._function(value)
        if inspect.isawaitable(changed):
            if inspect.iscoroutine(changed):
                changed.close()  # or else Python warns that nobody has awaited it
            raise InvalidTypeError(
                "the function of this edit returned something to be awaited: give a plain function"
            )
        if self._replace:
            return changed
        if changed is None or changed is value:
            return value
        if _is_mutable(value) and type(changed) is not type(value):
            raise _accident(key, value, f"a {type(changed).__name__}")
        # Before, since it may be what was taken out; after, since it may be what was put in.
        if not isinstance(changed, _ATOMS) and (
            any(part is changed for part in before) or any(part is changed for part in _parts(value))
        ):
            raise _accident(key, value, "a part of it")
        return changed


def _accident(key: str, value: Any, returned: str) -> UnsupportedValueError:
    return UnsupportedValueError(
        f"the edit of {key!r} was given a {type(value).__name__} and returned {returned}, and so is not "
        "stored: change the value in place and return None, return a new one of its type, or give "
        "replace=True"
    )


def _is_mutable(value: Any) -> bool:
    """Returns whether the value, or something in it, can be changed in place."""
    return _is_mutable_itself(value) or any(map(_is_mutable_itself, _parts(value)))


def _is_mutable_itself(value: Any) -> bool:
    if isinstance(value, (*_ATOMS, tuple, frozenset)):
        return False
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return not getattr(kind, "__dataclass_params__").frozen  # noqa: B009  # not declared anywhere
    config = getattr(kind, "model_config", None)
    if isinstance(config, dict) and hasattr(kind, "model_dump"):  # pydantic's
        return not config.get("frozen", False)
    # Dates, decimals and the like have a hash, and no attributes of an instance.
    return kind.__hash__ is None or hasattr(value, "__dict__")


def _parts(value: Any) -> Iterator[Any]:
    """Yields what the value holds, however deep, but for what cannot be told apart by identity; once each."""
    seen = {id(value)}
    rest = [value]
    while rest:
        for inner in _directly_in(rest.pop()):
            if not isinstance(inner, _ATOMS) and id(inner) not in seen:
                seen.add(id(inner))
                rest.append(inner)
                yield inner


def _directly_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    if isinstance(value, _ATOMS):
        return
    yield from getattr(value, "__dict__", {}).values()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and (inner := getattr(value, name, None)) is not None:
                yield inner
