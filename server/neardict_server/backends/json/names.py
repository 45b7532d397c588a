"""Maps domains and keys to names of folders and files, readable where they can be, reversible always.

A domain is split at its dots into folders; a key is one file, with `.json` added. Letters, digits,
`_`, `-`, space and inner dots stand for themselves, every other character for its UTF-8 bytes as `%XX`,
so no name can clash with another, leave its folder, or differ from another by its Unicode form only.
A name that would be too long for a file system ends in `%~` and the SHA-256 of the text instead; such
a file must hold its key. An empty part of a domain is `%`.

Names that other programs gave, as in `a@b.json`, are no escaped form of any key and stand for themselves.
"""

import functools
import hashlib
import re
import unicodedata
import urllib.parse

SUFFIX = ".json"
# What every common file system allows, in bytes.
MAX_NAME_BYTES = 255

_SHORTENED = re.compile(r"%~[0-9a-f]{64}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_ -](?:[A-Za-z0-9_ .-]*[A-Za-z0-9_ -])?")
# Frozen, so that no later version of Python has other letters and looks for other files.
_UNICODE = unicodedata.ucd_3_2_0


@functools.lru_cache(1024)
def folder_names(domain: str) -> tuple[str, ...]:
    """Returns the folders of a domain, from the root down."""
    parts = domain.split(".")
    return tuple(_shortened(_escaped(part), part, MAX_NAME_BYTES) if part else "%" for part in parts)


def file_name(key: str) -> str:
    """Returns the name of the file that neardict itself gives a key."""
    return _shortened(_escaped(key), key, MAX_NAME_BYTES - len(SUFFIX)) + SUFFIX


def foreign_name(key: str) -> str | None:
    """Returns the other name under which another program may have stored the key, if there is one."""
    name = key + SUFFIX
    if "/" in key or len(name.encode()) > MAX_NAME_BYTES or name == file_name(key) or key_of(name) != key:
        return None
    return name


def is_shortened(name: str) -> bool:
    """Returns whether the key must be read from the file."""
    return name.endswith(SUFFIX) and _SHORTENED.search(name.removesuffix(SUFFIX)) is not None


def key_of(name: str) -> str | None:
    """Returns the one key that a file of this name may hold.

    None if there is none, or if the name is shortened.
    """
    stem = name.removesuffix(SUFFIX)
    if stem == name or not stem or is_shortened(name):
        return None
    try:
        stem.encode()
    except UnicodeEncodeError:
        return None  # bytes that are no UTF-8, which os.listdir turns into surrogates
    if "%" not in stem:
        return stem
    key = _unescaped(stem)
    if key is None or _escaped(key) != stem:
        return stem
    return None if "\0" in key else key


def _shortened(escaped: str, text: str, limit: int) -> str:
    if len(escaped.encode()) <= limit:
        return escaped
    ending = "%~" + hashlib.sha256(text.encode()).hexdigest()
    beginning = escaped.encode()[: limit - len(ending)].decode(errors="ignore")
    return re.sub("%[0-9A-F]?$", "", beginning) + ending


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


def _unescaped(name: str) -> str | None:
    try:
        return urllib.parse.unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        return None
