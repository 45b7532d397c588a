"""What is in a file: the bare value where that is unambiguous, else an envelope.

    <JSON>                                             a JSON value, indented
    {"_neardict_raw": "<base64>"}                      raw bytes
    {"_neardict_json": <JSON>}                         a JSON value that would be taken for something else
    {"_neardict_key": "<key>", "_neardict_...": ...}   either of both, under a shortened name

Names that begin with `_neardict_` are ours only if all names of an object do.
"""

import base64
import binascii

import orjson

from .. import base
from .generations import is_bare, older_type
from .text import indented, members, unindented

_OURS = "_neardict_"
_KEY = "_neardict_key"
_RAW = "_neardict_raw"
_JSON = "_neardict_json"


class FormatError(ValueError):
    """The file holds no value. The message completes "<file> ..." and never quotes contents."""


def encode(key: str, value: base.Value, *, shortened: bool) -> bytes:
    """Returns the contents of a key's file; `shortened` if its name does not tell the key."""
    if isinstance(value, bytes):
        envelope = {_RAW: f'"{base64.b64encode(value).decode()}"'}
    else:
        parsed = orjson.loads(value)
        if not shortened and not _is_ambiguous(key, parsed):
            return f"{indented(value, parsed)}\n".encode()
        envelope = {_JSON: value}
    if shortened:
        envelope = {_KEY: orjson.dumps(key).decode(), **envelope}
    text = "{" + ",".join(f'"{name}":{member}' for name, member in envelope.items()) + "}"
    return f"{indented(text, orjson.loads(text))}\n".encode()


def decode(key: str, data: bytes, *, shortened: bool) -> base.Value:
    """Returns the value that a key's file holds. Raises FormatError if it holds none."""
    text, value = _parse(data)
    if isinstance(value, dict) and _is_envelope(value):
        return _opened(key, text, value)
    if shortened:
        raise FormatError(f"lacks the envelope with {_KEY} that a file with a shortened name needs")
    kind = older_type(key, value)
    if kind is None:
        return unindented(text)
    inner = unindented(members(text)[key])
    if is_bare(kind):
        return inner
    return f'{{"_moobius_type": "{kind}", "_moobius_val": {inner}}}'


def key_in(data: bytes) -> str:
    """Returns the key that an envelope names. Raises FormatError if there is none."""
    _, value = _parse(data)
    key = value.get(_KEY) if isinstance(value, dict) else None
    if not isinstance(key, str):
        raise FormatError(f"lacks {_KEY}")
    return key


def _is_ambiguous(key: str, value: object) -> bool:
    return (isinstance(value, dict) and _is_envelope(value)) or older_type(key, value) is not None


def _is_envelope(value: dict[str, object]) -> bool:
    return bool(value) and all(name.startswith(_OURS) for name in value)


def _opened(key: str, text: str, envelope: dict[str, object]) -> base.Value:
    if envelope.get(_KEY, key) != key:
        raise FormatError(f"belongs to another key, which its {_KEY} names: give it back its name")
    contents = envelope.keys() - {_KEY}
    if contents == {_JSON}:
        return unindented(members(text)[_JSON])
    raw = envelope.get(_RAW)
    if contents == {_RAW} and isinstance(raw, str):
        try:
            return base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            raise FormatError(f"holds no base64 in {_RAW}") from None
    raise FormatError(f"is an envelope without {_RAW} or {_JSON}")


def _parse(data: bytes) -> tuple[str, object]:
    """Returns the text and what it means to orjson, which is strict."""
    try:
        # Some editors begin a file with a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError("is not UTF-8: save it in that encoding") from None
    if not text.strip():
        raise FormatError("is empty")
    try:
        return text, orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"at line {error.lineno} column {error.colno}"
        if text.startswith(("NaN", "Infinity"), error.pos):
            problem = f"holds NaN or Infinity {place}, which JSON has not: write null, or a number"
        else:
            problem = f"is not JSON {place}: mend it"
        raise FormatError(problem) from None
