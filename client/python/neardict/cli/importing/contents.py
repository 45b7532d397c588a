"""What the file of a key holds: the value in the form of any version of the Moobius SDK, or of neardict.

<JSON>                                      the SDK since 1.4, with markers where it holds dataclasses
{"<key>": <JSON>, "_type": "<Class>"}       the SDK up to 1.3; 1.2 and 1.3 have "<module>.<Class>"
{"_neardict_raw": "<base64>"}               the json backend: raw bytes
{"_neardict_json": <JSON>}                  the json backend: a value that would be taken for another form
{"_neardict_key": "<key>", ...}             the json backend: either of both, in a file with a shortened name
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from ... import values
from ...v1 import storage_pb2 as pb
from .. import json_text

_OURS = "_neardict_"
_KEY = "_neardict_key"
_RAW = "_neardict_raw"
_JSON = "_neardict_json"

# What JSON holds without a marker.
_BARE = frozenset({"NoneType", "bool", "dict", "float", "int", "list", "str", "tuple"})


class ContentsError(ValueError):
    """The file holds no value. The message completes "it ..." and never quotes contents."""


class Contents(NamedTuple):
    """`key` is None if the file does not name it, `conversion` is empty if nothing was converted."""

    key: str | None
    value: pb.Value
    conversion: str = ""


def read(key: str | None, data: bytes) -> Contents:
    """Returns what a file holds for a key; None for the key if only the file can tell it.

    Raises ContentsError.
    """
    try:
        # Some editors begin a file with a byte order mark.
        text = data.decode("utf-8-sig")
        meaning = json_text.parse(text)
    except UnicodeDecodeError:
        raise ContentsError("is not UTF-8") from None
    except json_text.NotJsonError as error:
        raise ContentsError(str(error)) from None
    if isinstance(meaning, dict) and meaning and all(name.startswith(_OURS) for name in meaning):
        return _opened(meaning, text)
    if key is None:
        raise ContentsError(f"lacks {_KEY}, which a file with such a name needs")
    kind = _older_type(key, meaning)
    if kind is None:
        return Contents(None, pb.Value(json=json_text.compact(text)))
    inner = json_text.members(text)[key]
    if kind.removeprefix("builtins.") not in _BARE:
        inner = f'{{"{values.TYPE_MARKER}":{json.dumps(kind)},"{values.VALUE_MARKER}":{inner}}}'
    return Contents(None, pb.Value(json=inner), f"older form of a {kind}")


def _older_type(key: str, meaning: Any) -> str | None:
    if not isinstance(meaning, dict) or len(meaning) != 2 or key == "_type" or key not in meaning:
        return None
    kind = meaning.get("_type")
    if not isinstance(kind, str) or not all(part.isidentifier() for part in kind.split(".")):
        return None
    return kind


def _opened(envelope: dict[str, Any], text: str) -> Contents:
    key = envelope.get(_KEY)
    if _KEY in envelope and not isinstance(key, str):
        raise ContentsError(f"has something other than a key in {_KEY}")
    contents = envelope.keys() - {_KEY}
    if contents == {_JSON}:
        return Contents(key, pb.Value(json=json_text.members(text)[_JSON]))
    raw = envelope.get(_RAW)
    if contents == {_RAW} and isinstance(raw, str):
        try:
            return Contents(key, pb.Value(raw=base64.b64decode(raw, validate=True)))
        except (binascii.Error, ValueError):
            raise ContentsError(f"holds no base64 in {_RAW}") from None
    raise ContentsError(f"is an envelope without {_RAW} or {_JSON}")
