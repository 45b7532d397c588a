"""Changes the white space of JSON text, and cuts pieces from it, without touching anything else.

All functions take text that has been checked to be JSON. They work on tokens rather than on parsed
values, which would lose numbers of many digits, duplicate names and the way that numbers are written.
"""

import re

import orjson

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_WHITE = " \t\r\n"
# Deep nesting can make white space outweigh the text by far; beyond this the text stays on one line.
_MAX_GROWTH = 8
_FREE_GROWTH = 4096


def indented(text: str, value: object) -> str:
    """Returns the text with an indent of two spaces, as `json.dumps(indent=2)` has it.

    `value` is what the text means to orjson. Text whose indent would be many times its size is returned
    without.
    """
    result = _indented_by_orjson(text, value) or _indented_by_token(text)
    return result if len(result) <= _MAX_GROWTH * len(text) + _FREE_GROWTH else text


def unindented(text: str) -> str:
    """Returns the text on one line; white space within the line stays."""
    # A line break is never within a string, where JSON wants it escaped.
    return "".join(line.strip(_WHITE) for line in text.split("\n"))


def members(text: str) -> dict[str, str]:
    """Returns the members of the object that the text is: each name with the text of its value."""
    found: dict[str, str] = {}
    depth = 0
    name = ""
    start: int | None = None
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in ("}", "]"):
            depth -= 1
        if start is not None and ((depth == 1 and piece == ",") or depth == 0):
            found[name] = text[start : match.start()].strip(_WHITE)
            start = None
        elif start is None and depth == 1:
            if piece == ":":
                start = match.end()
            elif piece != ",":
                name = orjson.loads(piece)
        if piece in ("{", "["):
            depth += 1
    return found


def _indented_by_orjson(text: str, value: object) -> str | None:
    """Returns the indented text if orjson writes these very tokens, which is fast; else None."""
    try:
        if orjson.dumps(value) != text.encode():
            return None
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        return None  # nested deeper than it writes


def _indented_by_token(text: str) -> str:
    parts = []
    line_break = "\n"
    previous = ""
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in ("}", "]"):
            line_break = line_break[:-2]
            if previous not in ("{", "["):
                parts.append(line_break)
        elif previous in ("{", "[", ","):
            parts.append(line_break)
        parts.append(piece)
        if piece in ("{", "["):
            line_break += "  "
        elif piece == ":":
            parts.append(" ")
        previous = piece
    return "".join(parts)
