"""What may be stored, and how it travels.

JSON types travel as JSON text, bytes as they are, instances of registered classes as JSON with a marker
`{"_moobius_type": NAME, "_moobius_val": {...}}`. Whatever would come back as something else is refused.
"""

import json
import math
from typing import Any

from .errors import UndecodableValueError, UnsupportedValueError
from .registry import BY_CLASS, BY_NAME
from .v1 import storage_pb2 as pb

TYPE_MARKER = "_moobius_type"
VALUE_MARKER = "_moobius_val"

_MAX_DEPTH = 500  # the service's own limit is lower, and names itself


def encode(value: Any) -> pb.Value:
    """Returns the message for a value. Raises UnsupportedValueError if it would not come back as it is."""
    if isinstance(value, bytes):
        return pb.Value(raw=value)
    try:
        _check(value, 0)
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_encode_registered
        )
        return pb.Value(json=text)
    except UnsupportedValueError:
        raise
    except UnicodeEncodeError:
        raise UnsupportedValueError(
            "cannot store a str that holds a lone surrogate: it is no Unicode text; store bytes instead"
        ) from None


def decode(message: pb.Value) -> Any:
    """Returns the value of a message. Raises UndecodableValueError if a registered class refuses it."""
    if message.WhichOneof("kind") == "raw":
        return message.raw
    text = message.json
    if TYPE_MARKER in text:
        return json.loads(text, object_hook=_decode_registered)
    return json.loads(text)


def _check(value: Any, depth: int) -> None:
    """Refuses what JSON would silently change; the place is put together on the way out."""
    kind = type(value)
    if kind in _ATOMS:
        return
    if depth > _MAX_DEPTH:
        raise _UnsupportedPartError("nests too deep, or contains itself")
    if kind is dict or isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise _UnsupportedPartError(
                    f"has the key {name!r} of type {type(name).__name__}, which would come back as a str"
                )
            try:
                _check(inner, depth + 1)
            except _UnsupportedPartError as error:
                error.place.append(f"[{name!r}]")
                raise
    elif kind is list or isinstance(value, list):
        for index, inner in enumerate(value):
            try:
                _check(inner, depth + 1)
            except _UnsupportedPartError as error:
                error.place.append(f"[{index}]")
                raise
    elif kind is float:
        if not math.isfinite(value):
            raise _UnsupportedPartError("is a float without a JSON form (NaN or infinity)")
    elif kind not in BY_CLASS and not isinstance(value, (str, int, float)):
        raise _UnsupportedPartError(f"is a {kind.__name__}{_ADVICE.get(kind, _REGISTER)}")


def _encode_registered(value: Any) -> dict[str, Any]:
    """Called by json for what is none of its types, which _check left to registered classes alone."""
    registration = BY_CLASS[type(value)]
    plain = registration.encode(value)
    text = json.dumps(plain, allow_nan=False)
    if registration.decode(json.loads(text)) != value:
        raise UnsupportedValueError(
            f"cannot store this {registration.name}: made anew from its JSON form it is not equal; "
            "register it with encode and decode functions that fit, and an __eq__"
        )
    return {TYPE_MARKER: registration.name, VALUE_MARKER: plain}


def _decode_registered(data: dict[str, Any]) -> Any:
    if data.keys() != {TYPE_MARKER, VALUE_MARKER}:
        return data
    name, plain = data[TYPE_MARKER], data[VALUE_MARKER]
    if name == "NoneType":
        return None
    registration = BY_NAME.get(name) if isinstance(name, str) else None
    if registration is None:
        return data  # a class of somebody else: plain data, written back as it is
    try:
        return registration.decode(plain)
    except Exception as error:
        raise UndecodableValueError(
            f"the stored value does not fit the class registered as {name!r} ({type(error).__name__}): "
            "register decode for its older form, or correct the data"
        ) from error


class _UnsupportedPartError(UnsupportedValueError):
    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []  # innermost first

    def __str__(self) -> str:
        return f"cannot store this value: value{''.join(reversed(self.place))} {self.problem}"


_ATOMS = frozenset({str, int, bool, type(None)})
_REGISTER = ": register its class with neardict.register, or store what JSON has"
_ADVICE: dict[type, str] = {
    tuple: ", which would come back as a list: store list(value)",
    set: ", which JSON has not: store sorted(value), or a dict of True",
    frozenset: ", which JSON has not: store sorted(value), or a dict of True",
    bytes: " inside a JSON value: store it under a key of its own, or as base64 text",
    bytearray: ": store bytes(value) under a key of its own",
    memoryview: ": store bytes(value) under a key of its own",
}
