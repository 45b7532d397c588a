"""How a near dict shows itself to people: what it holds, without asking anybody."""

from __future__ import annotations

from typing import Any


def name_of(kind: type) -> str:
    """Returns the name of a class with the part of the package that it is imported from."""
    package, *parts = kind.__module__.split(".")
    inside = len(parts) > 1 and package == __name__.partition(".")[0]
    return f"{parts[0]}.{kind.__qualname__}" if inside else kind.__qualname__


def shown(kind: type, domain: str | None, held: dict[str, Any] | None, *, load: bool, fresh: bool) -> str:
    """Returns the `repr`: an expression, which gives a plain dict of what is held, if that is known.

    `held` is None for contents of which nothing is known, which stand as `...`. `domain` is None where it
    means nothing. `fresh` is whether the dict serves what it holds.
    """
    parts = [] if domain is None else [repr(domain)]
    parts.append("..." if held is None else repr(held))
    parts += [] if load else ["load=False"]
    parts += [] if fresh or held is None else ["fresh=False"]
    return f"{name_of(kind)}({', '.join(parts)})"


def plain(*arguments: Any, **state: Any) -> dict[str, Any] | None:
    """Returns the plain dict that a class of near dicts gives for these arguments, None if they are others.

    Code that copies dicts of whatever class calls `type(d)(entries)`, as dataclasses.asdict does. A near
    dict is of a store, which it does not know, so that it gets a plain one, as from `copy` and `pickle`. And
    so does one who evaluates a `repr`.
    """
    if not arguments:
        return None
    first, *rest = arguments
    if isinstance(first, str) and len(rest) == 1 and isinstance(rest[0], dict):
        return dict(rest[0])
    # A database of somebody's own may be iterable too.
    if rest or not hasattr(first, "__iter__") or hasattr(first, "get_value") or isinstance(first, str):
        return None
    return dict(first)
