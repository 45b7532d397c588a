"""Which domain and key a folder and file of a json_db stand for: the rules of the service's json backend.

Letters, digits, `_`, `-`, space and inner dots stand for themselves, any other character for its UTF-8
bytes as `%XX`. A name that would be too long ends in `%~` and a hash, and the file holds its key. A name
that is no escaped form of any key, as other programs give them, stands for itself.
"""

import functools
import hashlib
import re
import unicodedata
import urllib.parse

SUFFIX = ".json"
_MAX_NAME_BYTES = 255

_SHORTENED = re.compile(r"%~[0-9a-f]{64}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_ -](?:[A-Za-z0-9_ .-]*[A-Za-z0-9_ -])?")
# Frozen, as in the backend: a later version of Unicode has other letters.
_UNICODE = unicodedata.ucd_3_2_0


def domain_part(name: str) -> str | None:
    """Returns the part of a domain that a folder stands for, None if there is no telling."""
    if name == "%":
        return ""
    if _SHORTENED.search(name):
        return None
    part = _unescaped(name)
    # A part has no dots; "a.b" could as well be b in a.
    return None if part is None or "." in part else part


def key_of(name: str) -> str | None:
    """Returns the key that a file stands for, None if there is none or `is_shortened`."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or not stem or is_shortened(name):
        return None
    return _unescaped(stem)


def is_shortened(name: str) -> bool:
    """Returns whether only the file can tell its key."""
    return name.endswith(SUFFIX) and _SHORTENED.search(name.removesuffix(SUFFIX)) is not None


def file_name(key: str) -> str:
    """Returns the name of the file that the json backend gives a key."""
    escaped = _escaped(key)
    limit = _MAX_NAME_BYTES - len(SUFFIX)
    if len(escaped.encode()) > limit:
        ending = "%~" + hashlib.sha256(key.encode()).hexdigest()
        beginning = escaped.encode()[: limit - len(ending)].decode(errors="ignore")
        escaped = re.sub("%[0-9A-F]?$", "", beginning) + ending
    return escaped + SUFFIX


def _unescaped(name: str) -> str | None:
    try:
        name.encode()
        text = urllib.parse.unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        return name
    except UnicodeEncodeError:
        return None  # bytes that are no UTF-8, which Python shows as surrogates
    if _escaped(text) != name:
        return name
    return None if "\0" in text else text


def _escaped(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    last = len(text) - 1
    parts = [c if c == "." and 0 < at < last else _part(c) for at, c in enumerate(text)]
    escaped = "".join(parts)
    if unicodedata.is_normalized("NFC", escaped):
        return escaped
    # Letters that a normalising file system would turn into others.
    return "".join(part if part.isascii() else _percent(part) for part in parts)


@functools.lru_cache(4096)
def _part(character: str) -> str:
    if _PLAIN.fullmatch(character) or (character > "\x7f" and _UNICODE.category(character)[0] in "LN"):
        return character
    return _percent(character)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
