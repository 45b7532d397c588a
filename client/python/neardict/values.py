"""What may be stored, and how it travels.

JSON types travel as JSON text, bytes as they are, instances of registered classes as JSON with a marker
`{"_moobius_type": NAME, "_moobius_val": {...}}`. Whatever would come back as something else is refused.
"""

import enum
import json
import math
import secrets
from collections.abc import Sequence
from typing import Any, NoReturn

from . import _compression, _dataclasses
from .errors import ServiceError, UndecodableValueError, UnsupportedValueError
from .registry import BY_CLASS, NONE, Registration, find
from .v1 import storage_pb2 as pb

TYPE_MARKER = "_moobius_type"
VALUE_MARKER = "_moobius_val"

_MAX_DEPTH = 500  # the service's own limit is lower, and names itself


def encode(value: Any) -> pb.Value:
    """Returns the message for a value. Raises UnsupportedValueError if it would not come back as it is."""
    return pb.Value(raw=value) if type(value) is bytes else pb.Value(json=to_text(value))


def to_text(value: Any) -> str:
    """Returns the JSON text of a value that is no bytes. Raises UnsupportedValueError as `encode` does."""
    try:
        text = _to_text(_mark(value) if _check(value) else value)
        # A lone surrogate is no Unicode text, which nobody else would tell as well.
        if not text.isascii():
            text.encode()
        return text
    except _UnsupportedPartError as error:
        raise UnsupportedValueError(f"cannot store this value: {error}") from None
    except RecursionError:
        raise UnsupportedValueError(f"cannot store this value: value {_TOO_DEEP}") from None
    except ValueError:
        # A lone surrogate, or an int with more digits than Python writes.
        _refuse(value)


def decode(message: pb.Value, accept: int = 0) -> Any:
    """Returns the value of a message. Raises UndecodableValueError if a registered class refuses it.

    One that is compressed though the service was not asked to `accept` that, is a ServiceError.
    """
    # No JSON text is empty. To ask for the kind first would take as long as to read a small value.
    text = message.json
    if not text:
        kind = message.WhichOneof("kind")
        if kind == "raw":
            return message.raw
        if kind in _compression.KINDS:
            if not accept:
                raise ServiceError(
                    "protocol error: the service sent a compressed value, and was not asked to"
                )
            return decode(_compression.plain(message))
        if kind is None:
            raise UndecodableValueError(
                "the value is of a kind that this version does not know: upgrade neardict"
            )
    try:
        return _parse(text, _MARKED if TYPE_MARKER in text else _PLAIN)
    except UndecodableValueError:
        raise
    except (ValueError, RecursionError) as error:
        # Not the error itself, which holds the text.
        problem = type(error).__name__
        raise UndecodableValueError(f"the stored value is no JSON that Python reads ({problem})") from None


def decode_all(messages: Sequence[pb.Value], accept: int = 0) -> list[Any]:
    """Returns the value of each message, or in its place the UndecodableValueError that `decode` raises.

    Together they take a fifth of the time, and texts that occur as names in many of them are there once.
    """
    texts = [message.json for message in messages]
    joined = _SEPARATOR.join(texts)
    # Only what is plain JSON: bytes leave the text empty.
    if all(texts) and TYPE_MARKER not in joined:
        try:
            found: list[Any] = json.loads(f"[{joined}]")
        except (ValueError, RecursionError):
            pass  # one at a time they tell which it is
        else:
            # Texts that are no JSON by themselves, such as `[1` and `2]`, could make sense together, but not
            # without swallowing what stands between them, which nobody can foresee.
            if len(found) == 2 * len(texts) - 1 and found[1::2].count(_BETWEEN) == len(texts) - 1:
                return found[::2]
    return [_decode_or_error(message, accept) for message in messages]


def is_same(one: Any, other: Any) -> bool:
    """Returns whether two values are stored alike, which those that are equal need not be: 1 and True."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) in _ATOMS or type(one) is bytes:
        return bool(one == other)
    try:
        return to_text(one) == to_text(other)
    except UnsupportedValueError:
        return False


def _decode_or_error(message: pb.Value, accept: int) -> Any:
    try:
        return decode(message, accept)
    except UndecodableValueError as error:
        return error


def _parse(text: str, decoder: json.JSONDecoder) -> Any:
    # Quicker than json.loads, which looks for white space around the value, and makes a decoder for a hook.
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError:
        return decoder.decode(text)
    return value if end == len(text) else decoder.decode(text)


# json.dumps would make an encoder each time. What holds itself is refused before, as too deep.
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def _to_text(value: Any) -> str:
    return _encode(value)


def _check(value: Any, depth: int = 0, *, closely: bool = False) -> bool:
    """Refuses what JSON would silently change; returns whether there is an instance of a registered class.

    The place of what is refused is put together on the way out. `closely` looks at each text and number
    too, which otherwise is left to those who write them.
    """
    kind = type(value)
    if kind in _ATOMS:
        if closely:
            _check_atom(value)
        return False
    if depth > _MAX_DEPTH:
        raise _UnsupportedPartError(_TOO_DEEP)
    marked = False
    if kind is dict:
        for name, inner in value.items():
            if type(name) is not str:
                raise _UnsupportedPartError(
                    f"has the key {name!r} of type {type(name).__name__}, which would come back as a str"
                )
            try:
                if closely:
                    _check_atom(name)
                marked = _check(inner, depth + 1, closely=closely) or marked
            except _UnsupportedPartError as error:
                error.place.append(f"[{name!r}]")
                raise
        if TYPE_MARKER in value and VALUE_MARKER in value and len(value) == 2:
            _check_marker(value)
    elif kind is list:
        for index, inner in enumerate(value):
            try:
                marked = _check(inner, depth + 1, closely=closely) or marked
            except _UnsupportedPartError as error:
                error.place.append(f"[{index}]")
                raise
    elif kind is float:
        if not math.isfinite(value):
            raise _UnsupportedPartError("is a float without a JSON form (NaN or infinity)")
    elif kind in BY_CLASS:
        marked = True
    else:
        raise _UnsupportedPartError(f"is a {kind.__name__}{_advice(kind)}")
    return marked


def _check_atom(value: Any) -> None:
    try:
        (value if type(value) is str else str(value)).encode()
    except UnicodeEncodeError:
        raise _UnsupportedPartError("holds a lone surrogate, which is no Unicode text: store bytes") from None
    except ValueError:
        raise _UnsupportedPartError("is an int with too many digits: store it as text") from None


def _check_marker(value: dict[str, Any]) -> None:
    """Refuses plain data in the form of a marker that could not be read as such.

    If it can, it is what was read before its class was registered, and is written back unchanged.
    """
    try:
        again = json.loads(_to_text(_mark(value)), object_hook=_decode_marked)
    except (UndecodableValueError, ValueError):
        again = None
    if again is None:
        raise _UnsupportedPartError(f"has the keys {TYPE_MARKER!r} and {VALUE_MARKER!r}, which are reserved")


def _refuse(value: Any) -> NoReturn:
    """Raises the error for a value that has passed _check but could not be written."""
    try:
        _check(_mark(value), closely=True)
    except _UnsupportedPartError as error:
        raise UnsupportedValueError(f"cannot store this value: {error}") from None
    raise UnsupportedValueError("cannot store this value: it changed meanwhile")


def _mark(value: Any) -> Any:
    """Returns the value, which has passed _check, with marked data for instances of registered classes."""
    kind = type(value)
    if kind is dict:
        return {name: _mark_part(name, inner) for name, inner in value.items()}
    if kind is list:
        return [_mark_part(index, inner) for index, inner in enumerate(value)]
    if kind in _ATOMS or kind is float:
        return value
    return _mark_instance(value, BY_CLASS[kind])


def _mark_part(index: str | int, value: Any) -> Any:
    try:
        return _mark(value)
    except _UnsupportedPartError as error:
        error.place.append(f"[{index!r}]")
        raise


def _mark_instance(value: Any, registration: Registration) -> dict[str, Any]:
    plain = registration.encode(value)
    _check(plain)
    marked = {TYPE_MARKER: registration.name, VALUE_MARKER: _mark(plain)}
    try:
        text = _to_text(marked[VALUE_MARKER])
    except ValueError:
        _check(marked, closely=True)
        raise
    try:
        again = registration.decode(json.loads(text, object_hook=_decode_marked))
        problem = "" if again == value or _dataclasses.nothing_lost(value, again) else "is not equal"
    except Exception as error:
        problem = f"fails with {type(error).__name__}"
    if problem:
        raise _UnsupportedPartError(
            f"is a {registration.name}, and making it anew from its JSON form {problem}: register it with "
            "encode and decode functions that fit, and an __eq__"
        )
    return marked


def _decode_marked(data: dict[str, Any]) -> Any:
    if TYPE_MARKER not in data or VALUE_MARKER not in data or len(data) != 2:
        return data
    name, plain = data[TYPE_MARKER], data[VALUE_MARKER]
    if name == NONE:
        return None
    registration = find(name)
    if registration is None:
        return data  # a class of somebody else: plain data, written back as it is
    try:
        return registration.decode(plain)
    except UndecodableValueError:
        raise
    except Exception as error:
        raise UndecodableValueError(
            f"the stored value does not fit the class registered as {name!r} ({type(error).__name__}): "
            "register decode for its older form, or correct the data"
        ) from error


_PLAIN = json.JSONDecoder()
_MARKED = json.JSONDecoder(object_hook=_decode_marked)
_BETWEEN = secrets.token_hex(8)
_SEPARATOR = f',"{_BETWEEN}",'


class _UnsupportedPartError(Exception):
    """A part of a value is refused; str() gives the place and the problem."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []  # innermost first

    def __str__(self) -> str:
        place = "".join(reversed(self.place[-_SHOWN:])) + ("..." if len(self.place) > _SHOWN else "")
        return f"value{place} {self.problem}"


def _advice(kind: type) -> str:
    if kind in _ADVICE:
        return _ADVICE[kind]
    if issubclass(kind, enum.Enum):
        return ": store its value or its name, or register its class with neardict.register"
    for base in (str, int, float, dict, list, bytes):
        if issubclass(kind, base):
            name = base.__name__
            return f", which would come back as a plain {name}: store {name}(value), or register its class"
    return ": register its class with neardict.register, or store what JSON has"


_SHOWN = 20
_TOO_DEEP = "nests too deep, or contains itself"
_ATOMS = frozenset({str, int, bool, type(None)})
_ADVICE: dict[type, str] = {
    tuple: ", which would come back as a list: store list(value)",
    set: ", which JSON has not: store sorted(value), or a dict of True",
    frozenset: ", which JSON has not: store sorted(value), or a dict of True",
    bytes: " inside a JSON value: store it under a key of its own, or as base64 text",
    bytearray: ": store bytes(value) under a key of its own",
    memoryview: ": store bytes(value) under a key of its own",
}
