"""Classes whose instances may be stored, by name. Stored data never names a class to import."""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Class = TypeVar("_Class", bound=type)


# The name under which the SDK of Moobius marks None.
NONE = "NoneType"


class Registration(NamedTuple):
    """`encode` turns an instance of `cls` into an object of JSON types, `decode` turns that back."""

    cls: type
    name: str
    encode: Callable[[Any], dict[str, Any]]
    decode: Callable[[dict[str, Any]], Any]


BY_CLASS: dict[type, Registration] = {}
BY_NAME: dict[str, Registration] = {}


def register(
    cls: _Class,
    *,
    name: str | None = None,
    encode: Callable[[Any], dict[str, Any]] | None = None,
    decode: Callable[[dict[str, Any]], Any] | None = None,
) -> _Class:
    """Lets instances of the class be stored as values, and returns the class, so it works as a decorator.

    `name` is what stands in the data, by default `module.Class`. Dataclasses and pydantic models need no
    more; for other classes `encode` returns a dict of JSON types and `decode` makes an instance of it.

    Raises TypeError for a class that needs them, ValueError if another class has the name.
    """
    name = f"{cls.__module__}.{cls.__name__}" if name is None else name
    if encode is None or decode is None:
        if dataclasses.is_dataclass(cls):
            encode, decode = encode or _fields_of, decode or functools.partial(_build, cls)
        elif hasattr(cls, "model_dump") and hasattr(cls, "model_validate"):
            dump, validate = cls.model_dump, cls.model_validate
            encode, decode = encode or (lambda model: dump(model, mode="json")), decode or validate
        else:
            raise TypeError(f"{cls.__qualname__} is no dataclass or pydantic model: give encode and decode")
    if name == NONE or (name in BY_NAME and not _same(cls, BY_NAME[name].cls)):
        raise ValueError(f"another class is registered as {name!r}: choose a name")
    BY_CLASS[cls] = BY_NAME[name] = Registration(cls, name, encode, decode)
    return cls


def _same(cls: type, earlier: type) -> bool:
    """Returns whether they are one class, perhaps defined anew, as by a reload or in a notebook."""
    return cls is earlier or (
        "<locals>" not in cls.__qualname__
        and (cls.__module__, cls.__qualname__) == (earlier.__module__, earlier.__qualname__)
    )


def _fields_of(instance: Any) -> dict[str, Any]:
    """Returns the fields as JSON types, as far as `_build` can turn them back; others stay as they are."""
    return {field.name: _plain(getattr(instance, field.name)) for field in dataclasses.fields(instance)}


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in (list, tuple):
        return [_plain(inner) for inner in value]
    if kind is dict:
        return {name: _plain(inner) for name, inner in value.items()}
    if kind in (set, frozenset):
        items = [_plain(inner) for inner in value]
        with contextlib.suppress(TypeError):  # of kinds that have no order
            items.sort()
        return items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    return value


@functools.cache
def _fields(cls: type) -> dict[str, tuple[bool, Any]]:
    hints = typing.get_type_hints(cls)
    return {field.name: (field.init, hints[field.name]) for field in dataclasses.fields(cls)}


def _build(cls: type, data: dict[str, Any]) -> Any:
    """Makes a dataclass of what `dataclasses.asdict` and JSON left of it; unknown names are ignored."""
    given: dict[str, Any] = {}
    late: dict[str, Any] = {}
    for name, (init, hint) in _fields(cls).items():
        if name in data:
            (given if init else late)[name] = _coerce(hint, data[name])
    instance = cls(**given)
    for name, value in late.items():
        object.__setattr__(instance, name, value)
    return instance


def _coerce(hint: Any, value: Any) -> Any:
    """Gives back to a JSON value the type that its field declares, where JSON has none for it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                coerced = _coerce(option, value)
            except TypeError:
                continue  # it is the value of another option
            if coerced is not value or (isinstance(option, type) and isinstance(value, option)):
                return coerced
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _build(hint, value)
    if isinstance(value, list):
        kind = origin or hint
        if kind is tuple and arguments and arguments[-1] is not Ellipsis and len(arguments) == len(value):
            return tuple(map(_coerce, arguments, value))
        item = arguments[0] if arguments else Any
        items = [_coerce(item, inner) for inner in value]
        return kind(items) if kind in (tuple, set, frozenset) else items
    if isinstance(value, dict) and origin is dict:
        return {name: _coerce(arguments[1], inner) for name, inner in value.items()}
    return value
