"""Lets a program store instances of its own dataclasses without having registered them.

Moobius services do so. A class is registered when the program itself hands over an instance of it; what is
stored never names a class to build, so that reading takes a class that was registered before.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .. import registry
from ..errors import UnsupportedValueError

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


def registering(value: Any, store: Callable[[], _Result]) -> _Result:
    """Returns what `store` returns, called again if it met instances of dataclasses to register first."""
    try:
        return store()
    except UnsupportedValueError:
        if not _register_classes(value):
            raise
        return store()


def _register_classes(value: Any) -> bool:
    """Registers the dataclasses whose instances the value holds; returns whether any is new."""
    found = {type(inner) for inner in _inside(value) if dataclasses.is_dataclass(inner)}
    new = found - registry.BY_CLASS.keys() - {type}
    for cls in new:
        # As the SDK names it, also a class of the started program.
        name = f"{cls.__module__}.{cls.__name__}"
        try:
            registry.register(cls, name=name)
        except ValueError as error:
            raise UnsupportedValueError(f"cannot store this {cls.__qualname__}: {error}") from None
        if not registry.is_of_the_sdk(cls):
            logger.warning(
                "registered the class %r, since an instance of it was stored: put %s before it, or a "
                "restarted program will read the value as a plain dict",
                name,
                registry.decorator(name),
            )
    return bool(new)


def _inside(value: Any) -> Iterator[Any]:
    """Yields the value and all that its lists and dicts hold, each object once, so that cycles end."""
    seen = set()
    rest = [value]
    while rest:
        inner = rest.pop()
        if id(inner) not in seen:
            seen.add(id(inner))
            yield inner
            if isinstance(inner, dict):
                rest += inner.values()
            elif isinstance(inner, list):
                rest += inner
