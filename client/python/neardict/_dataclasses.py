"""Dataclasses as objects of JSON types, and back.

A stored object may have fields that its class has not, since another version of the program wrote it. They
stay with the instance, out of sight of the class, and are stored with it again.
"""

import contextlib
import dataclasses
import functools
import logging
import types
import typing
from typing import Any

from .errors import UndecodableValueError

logger = logging.getLogger(__name__)

# The attribute that holds the fields that the class has not.
OTHERS = "_neardict_other_fields"

# Classes of which it was said that stored instances have such fields: once is enough for each.
_told: set[type] = set()


def fields_of(instance: Any) -> dict[str, Any]:
    """Returns the fields as JSON types, as far as `build` can turn them back; others stay as they are."""
    own = {field.name: _plain(getattr(instance, field.name)) for field in dataclasses.fields(instance)}
    others = _others_of(instance)
    return {**own, **{name: value for name, value in others.items() if name not in own}} if others else own


def build(cls: type, data: dict[str, Any]) -> Any:
    """Makes a dataclass of what `fields_of` and JSON left of it.

    Raises UndecodableValueError if there are fields that the class has not, and no place to keep them.
    """
    return _build(cls, data, strictly=False)


def nothing_lost(stored: Any, again: Any) -> bool:
    """Returns whether `again`, made of the JSON form of `stored`, has all that is in it.

    They need not be equal: a field may hold the JSON form of the dataclass that it declares, and comes back
    as one; and a class may have no equality.
    """
    if _is_instance(again):
        if type(stored) is dict:
            return _covers(_plain(again), stored)
        return type(stored) is type(again) and all(
            nothing_lost(getattr(stored, field.name), getattr(again, field.name))
            for field in dataclasses.fields(again)
        )
    if type(stored) is type(again) and isinstance(stored, (list, tuple)):
        return len(stored) == len(again) and all(map(nothing_lost, stored, again))
    if type(stored) is dict and type(again) is dict:
        return stored.keys() == again.keys() and all(
            nothing_lost(inner, again[name]) for name, inner in stored.items()
        )
    return bool(stored == again)


def _covers(more: Any, data: Any) -> bool:
    """Returns whether JSON data is in `more`, whose objects may have more members."""
    if type(more) is not type(data):
        return False
    if type(data) is dict:
        return all(name in more and _covers(more[name], inner) for name, inner in data.items())
    if type(data) is list:
        return len(more) == len(data) and all(map(_covers, more, data))
    return bool(more == data)


def _is_instance(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


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
    if _is_instance(value):
        return fields_of(value)
    return value


@functools.cache
def _fields(cls: type) -> dict[str, tuple[bool, Any]]:
    hints = typing.get_type_hints(cls)
    return {field.name: (field.init, hints[field.name]) for field in dataclasses.fields(cls)}


def _build(cls: type, data: dict[str, Any], *, strictly: bool) -> Any:
    """Makes a dataclass; `strictly` refuses fields that it has not with a TypeError."""
    given: dict[str, Any] = {}
    late: dict[str, Any] = {}
    fields = _fields(cls)
    for name, (init, hint) in fields.items():
        if name in data:
            (given if init else late)[name] = _coerce(hint, data[name], strictly=strictly)
    others = {}
    if len(data) > len(given) + len(late):
        others = {name: value for name, value in data.items() if name not in fields}
    if others and strictly:
        raise TypeError(f"{cls.__qualname__} has no such fields")
    instance = cls(**given)
    for name, value in late.items():
        object.__setattr__(instance, name, value)
    if others:
        _keep(instance, others)
    return instance


def _keep(instance: Any, others: dict[str, Any]) -> None:
    cls = type(instance)
    try:
        instance.__dict__[OTHERS] = others
    except AttributeError:
        raise UndecodableValueError(
            f"the stored {cls.__qualname__} has fields that its class has not, and has no __dict__ to keep "
            "them in: register decode for its older form, or make the class without slots"
        ) from None
    if cls not in _told:
        _told.add(cls)
        logger.warning(
            "stored values have fields that the class %r has not: they are stored again with the very object "
            "that was read, but not with one that dataclasses.replace or your program makes of it; register "
            "decode for the older form",
            cls.__qualname__,
        )


def _others_of(instance: Any) -> dict[str, Any]:
    others: dict[str, Any] = getattr(instance, "__dict__", {}).get(OTHERS, {})
    return others


def _coerce(hint: Any, value: Any, *, strictly: bool) -> Any:
    """Gives back to a JSON value the type that its field declares, where JSON has none for it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_to_one_of(arguments, value, strictly=strictly)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _build(hint, value, strictly=strictly)
    if not isinstance(value, (list, dict)):
        return value
    if isinstance(value, list):
        kind = origin or hint
        if kind is tuple and arguments and arguments[-1] is not Ellipsis and len(arguments) == len(value):
            pairs = zip(arguments, value, strict=True)
            return tuple([_coerce(hinted, inner, strictly=strictly) for hinted, inner in pairs])
        item = arguments[0] if arguments else Any
        items = [_coerce(item, inner, strictly=strictly) for inner in value]
        return kind(items) if kind in (tuple, set, frozenset) else items
    if origin is dict:
        return {name: _coerce(arguments[1], inner, strictly=strictly) for name, inner in value.items()}
    return value


def _coerce_to_one_of(options: tuple[Any, ...], value: Any, *, strictly: bool) -> Any:
    # First one that has all the fields, else any that can be built.
    for strict in (True,) if strictly else (True, False):
        for option in options:
            try:
                coerced = _coerce(option, value, strictly=strict)
            except TypeError:
                continue  # it is the value of another option
            if coerced is not value or (isinstance(option, type) and isinstance(value, option)):
                return coerced
    return value
