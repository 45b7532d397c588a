"""Checks and lays out JSON text by its tokens, so that nothing in it changes but the white space.

Parsed and written anew, numbers of many digits, 1.10 and names that occur twice would not come back.
"""

import json
import math
import re
from typing import Any, NoReturn

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class NotJsonError(ValueError):
    """The text is not JSON that can be stored. The message completes "it ..." and never quotes the text."""


def parse(text: str) -> Any:
    """Returns what the text means. Raises NotJsonError, also for what Python's json takes beyond JSON."""
    if not text.strip():
        raise NotJsonError("is empty")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise NotJsonError(f"is not JSON at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotJsonError("nests arrays and objects too deep") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise NotJsonError("holds a lone surrogate, which is no Unicode text") from None
    return value


def is_json(text: str) -> bool:
    """Returns whether the text is JSON, however deep it nests."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def compact(text: str) -> str:
    """Returns JSON text on one line without white space."""
    return "".join(_TOKEN.findall(text))


def depth(text: str) -> int:
    """Returns how many arrays and objects enclose the innermost value of JSON text, itself included."""
    level = deepest = 0
    for piece in _TOKEN.findall(text):
        if piece in ("{", "["):
            level += 1
            deepest = max(deepest, level)
        elif piece in ("}", "]"):
            level -= 1
    return deepest


def members(text: str) -> dict[str, str]:
    """Returns the members of the object that JSON text is: each name with the text of its value."""
    found: dict[str, str] = {}
    level = 0
    name = ""
    value: list[str] | None = None
    for piece in _TOKEN.findall(text):
        if piece in ("}", "]"):
            level -= 1
        if level == 0 or (level == 1 and piece == ","):
            if value is not None:
                found[name] = "".join(value)
            value = None
        elif value is not None:
            value.append(piece)
        elif piece == ":":
            value = []
        else:
            name = json.loads(piece)
        if piece in ("{", "["):
            level += 1
    return found


def same(one: str, other: str) -> bool:
    """Returns whether two JSON texts mean the same; 1, 1.0 and true are three values."""
    if compact(one) == compact(other):
        return True
    if not (is_json(one) and is_json(other)):
        return False
    return json.dumps(json.loads(one)) == json.dumps(json.loads(other))


def pretty(text: str) -> str:
    """Returns JSON text for a terminal: indented, escapes as characters where a terminal can show them."""
    parts: list[str] = []
    line_break = "\n"
    previous = ""
    for piece in _TOKEN.findall(text):
        if piece in ("}", "]"):
            line_break = line_break[:-2]
            if previous not in ("{", "["):
                parts.append(line_break)
        elif previous in ("{", "[", ","):
            parts.append(line_break)
        parts.append(_shown(piece))
        if piece in ("{", "["):
            line_break += "  "
        elif piece == ":":
            parts.append(" ")
        previous = piece
    return "".join(parts)


def readable(text: str) -> str:
    """Returns JSON text on one line, with escapes as `pretty` has them."""
    return "".join(
        f"{_shown(piece)} " if piece in (",", ":") else _shown(piece) for piece in _TOKEN.findall(text)
    )


def printable(text: str) -> str:
    """Returns text of any kind without what would command a terminal: as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _shown(piece: str) -> str:
    # A text that is no JSON may be shown, too.
    if not piece.startswith('"') or not is_json(piece):
        return printable(piece)
    return printable(json.dumps(json.loads(piece), ensure_ascii=False))


def _refuse_constant(_: str) -> NoReturn:
    raise NotJsonError("holds NaN or Infinity, which JSON has not: write null, or a number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotJsonError("holds a number beyond the range of a double")
    return number


def _integer(text: str) -> int:
    if len(text) > 300:
        _finite(text)
    return int(text)
