"""Classes whose instances may be stored, by name. Stored data never names a class to import."""

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from . import _dataclasses, _models

logger = logging.getLogger(__name__)

_Class = TypeVar("_Class", bound=type)
_Encode = Callable[[Any], dict[str, Any]]
_Decode = Callable[[dict[str, Any]], Any]

# The name under which the SDK of Moobius marks None.
NONE = "NoneType"

# Where the SDK of Moobius has its own dataclasses.
SDK = "moobius.types"

# What the module of the started program is called, in it and in processes that multiprocessing spawns.
_MAIN = ("__main__", "__mp_main__")
_IN_MAIN = tuple(f"{module}." for module in _MAIN)


class Registration(NamedTuple):
    """`encode` turns an instance of `cls` into an object of JSON types, `decode` turns that back."""

    cls: type
    name: str
    encode: _Encode
    decode: _Decode


BY_CLASS: dict[type, Registration] = {}
BY_NAME: dict[str, Registration] = {}

# Names that have been warned of: once is enough for each. Bounded, as others write them.
_warned: set[str] = set()
_MAX_WARNED = 1000
_SHOWN = 200


@overload
def register(
    cls: _Class, *, name: str | None = None, encode: _Encode | None = None, decode: _Decode | None = None
) -> _Class: ...


@overload
def register(
    *, name: str | None = None, encode: _Encode | None = None, decode: _Decode | None = None
) -> Callable[[_Class], _Class]: ...


def register(
    cls: Any = None,
    *,
    name: str | None = None,
    encode: _Encode | None = None,
    decode: _Decode | None = None,
) -> Any:
    """Lets instances of the class be stored as values, and returns the class.

    Works as a decorator, with and without arguments: `@register` and `@register(name="hero")`.

    `name` is what stands in the data, by default `module.Class`. Dataclasses and pydantic models need no
    more; for other classes `encode` returns a dict of JSON types and `decode` makes an instance of it.

    Raises TypeError for a class that needs them, ValueError if another class has the name, or if a class of
    the started program, whose module is `__main__`, has none: no other program would find it by that.
    """
    if cls is None:
        return functools.partial(register, name=name, encode=encode, decode=decode)
    if name is not None and not (isinstance(name, str) and name and _is_text(name)):
        raise ValueError(f"a name is a str of Unicode text that is not empty, not {name!r}")
    if not isinstance(cls, type):
        raise TypeError(f"a {type(cls).__name__} is not a class; a name is given as register(name=...)")
    if name is None:
        if cls.__module__ in _MAIN:
            default = f"{cls.__module__}.{cls.__name__}"
            raise ValueError(
                f"the class {cls.__qualname__} is of the started program, and no other program would find "
                f"it as {default!r}: give it a name, as in @neardict.register(name={cls.__name__.lower()!r}),"
                f" or move it to a module (name={default!r} reads what is stored under that already)"
            )
        name = f"{cls.__module__}.{cls.__name__}"
    if encode is None or decode is None:
        if dataclasses.is_dataclass(cls):
            encode = encode or _dataclasses.fields_of
            decode = decode or functools.partial(_dataclasses.build, cls)
        elif hasattr(cls, "model_dump") and hasattr(cls, "model_validate"):
            encode = encode or _models.dump
            decode = decode or functools.partial(_models.load, cls)
        else:
            raise TypeError(
                f"{cls.__qualname__} is no dataclass or pydantic model: give encode and decode "
                "(@register stands above @dataclass)"
            )
    if name == NONE or (name in BY_NAME and not _same(cls, BY_NAME[name].cls)):
        raise ValueError(f"another class is registered as {name!r}: choose a name")
    BY_CLASS[cls] = BY_NAME[name] = Registration(cls, name, encode, decode)
    return cls


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def find(name: object) -> Registration | None:
    """Returns what is registered under a name that stands in stored data.

    The dataclasses of the SDK of Moobius register themselves, if the program has imported them. A name that
    is found nowhere is told in the log, once.
    """
    if not isinstance(name, str):
        return None
    registration = BY_NAME.get(name) or _of_the_sdk(name)
    if registration is None:
        _warn_of(name)
    return registration


def is_of_the_sdk(cls: type) -> bool:
    """Returns whether a class is a dataclass that the SDK's own module has defined, under its own name."""
    module = sys.modules.get(SDK)  # never imported here
    return (
        module is not None
        and vars(module).get(cls.__name__) is cls
        and cls.__module__ == SDK
        and dataclasses.is_dataclass(cls)
    )


def decorator(name: str) -> str:
    """Returns what registers the class of a name `module.Class` under this name."""
    return f"@neardict.register(name={name!r})" if name.startswith(_IN_MAIN) else "@neardict.register"


def _of_the_sdk(name: str) -> Registration | None:
    module, _, short = name.rpartition(".")
    if module != SDK or SDK not in sys.modules:
        return None
    cls = vars(sys.modules[SDK]).get(short)
    if not isinstance(cls, type) or cls.__name__ != short or not is_of_the_sdk(cls):
        return None
    register(cls)
    return BY_NAME[name]


def _warn_of(name: str) -> None:
    if name in _warned or len(_warned) >= _MAX_WARNED:
        return
    _warned.add(name)
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    of_the_sdk = name.startswith(f"{SDK}.")
    advice = f"import {SDK}" if of_the_sdk else f"put {decorator(shown)} before the class"
    logger.warning(
        "stored values name the class %r, which is not registered, and are read as plain dicts: %s, and let "
        "that happen before they are read",
        shown,
        advice,
    )


def _same(cls: type, earlier: type) -> bool:
    """Returns whether they are one class, perhaps defined anew, as by a reload or in a notebook."""
    return cls is earlier or (
        "<locals>" not in cls.__qualname__
        and (cls.__module__, cls.__qualname__) == (earlier.__module__, earlier.__qualname__)
    )
