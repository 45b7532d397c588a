"""The type that the values of a dict have, checked when they are written and when they are read."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import registry
from .errors import InvalidTypeError, UndecodableValueError, UnsupportedValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import TypeVar

    # The values of a dict that was given no type are Any.
    V = TypeVar("V", default=Any)
else:
    V = typing.TypeVar("V")

# What may be stored without a class of its own. A float is read back as the int that JSON writes for it.
_PLAIN: dict[object, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    bytes: (bytes,),
    list: (list,),
    dict: (dict,),
    types.NoneType: (types.NoneType,),
    None: (types.NoneType,),
}

_Check = Callable[[Any], bool]
_Known = dict[Any, _Check]


class ValueType:
    """Knows whether a value is of the type. Made once for a dict; the classes in the type are registered."""

    def __init__(self, hint: Any) -> None:
        """Raises InvalidTypeError for what is no type of values, and what `register` raises."""
        self.name = hint.__name__ if isinstance(hint, type) and not _arguments(hint) else str(hint)
        self._check = _check_of(hint, {})

    def check_written(self, value: Any) -> None:
        """Raises UnsupportedValueError if the value is of another type."""
        if not self._check(value):
            raise UnsupportedValueError(
                f"this dict holds values of the type {self.name}, and {self._given(value)}"
            )

    def checked(self, value: Any) -> Any:
        """Returns the value, which was read. Raises UndecodableValueError if it is of another type."""
        if not self._check(value):
            raise self._error(value)
        return value

    def all_checked(self, values: Sequence[Any]) -> list[Any]:
        """Returns the values, which were read or are errors, with an error in the place of each misfit."""
        check = self._check
        return [
            value if check(value) or isinstance(value, UndecodableValueError) else self._error(value)
            for value in values
        ]

    def _error(self, value: Any) -> UndecodableValueError:
        return UndecodableValueError(
            f"this dict holds values of the type {self.name}, and what is stored {self._given(value, 'is')}: "
            "correct it, or read it by a dict without a type"
        )

    def _given(self, value: Any, verb: str = "this is") -> str:
        kind = type(value).__name__
        inside = " with other contents" if self.name.startswith(f"{kind}[") else ""
        return f"{verb} a {kind}{inside}"


def _arguments(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint)


def _check_of(hint: Any, known: _Known) -> _Check:
    """Returns what tells whether a value is of the type, after registering the classes in it.

    `known` has the checks of the TypedDicts that it stands in, which may be in themselves.
    """
    if hint is Any or hint is object:
        return lambda value: True
    origin, arguments = typing.get_origin(hint), _arguments(hint)
    if origin is typing.Annotated:
        return _check_of(arguments[0], known)
    if origin in (typing.Union, types.UnionType):
        options = [_check_of(argument, known) for argument in arguments]
        return lambda value: any(option(value) for option in options)
    if origin is typing.Literal:
        return lambda value: any(type(value) is type(one) and value == one for one in arguments)
    if origin in (list, dict) and not arguments:
        hint, origin = origin, None  # typing.List and typing.Dict are list and dict
    if origin is list:
        return _list_of(_check_of(arguments[0], known))
    if origin is dict:
        if arguments[0] not in (str, Any):
            raise InvalidTypeError(f"{hint} cannot be stored: the keys of a JSON object are str")
        return _dict_of(_check_of(arguments[1], known))
    if typing.is_typeddict(hint):
        return _typed_dict(hint, known)
    if hint in _PLAIN:
        return _instance_of(_PLAIN[hint])
    if not isinstance(hint, type) or origin is not None:
        raise InvalidTypeError(
            f"values of the type {hint} cannot be checked: give a class, a JSON type, or list[...] and "
            "dict[str, ...] of them"
        )
    if hint not in registry.BY_CLASS and not _is_abstract(hint):
        registry.register(hint)
    return _instance_of((hint,))


def _is_abstract(cls: type) -> bool:
    """Returns whether it is a common base of classes that are registered, rather than one of them."""
    if dataclasses.is_dataclass(cls):
        return False
    return any(issubclass(registered, cls) for registered in registry.BY_CLASS)


def _instance_of(classes: tuple[type, ...]) -> _Check:
    return lambda value: isinstance(value, classes)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _dict_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _typed_dict(hint: Any, known: _Known) -> _Check:
    if hint in known:
        return known[hint]
    fields: dict[str, _Check] = {}
    required: frozenset[str] = hint.__required_keys__

    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and required <= value.keys()
            and all(name in fields and fields[name](inner) for name, inner in value.items())
        )

    known = {**known, hint: check}
    try:
        hints = typing.get_type_hints(hint)
    except NameError as error:
        raise InvalidTypeError(f"{hint.__name__} has a field of an unknown type: {error}") from None
    fields.update((name, _check_of(field, known)) for name, field in hints.items())
    return check
