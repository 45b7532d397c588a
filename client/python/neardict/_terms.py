"""On what terms a dict keeps values: of which type they are, and for how long they live."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Literal

from . import _compression, _requests, values
from ._value_type import ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .v1 import storage_pb2 as pb


class Default(enum.Enum):
    """Stands for a time to live that a caller has not given."""

    DEFAULT = "the default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Literal[Default.DEFAULT] = Default.DEFAULT

# A time to live; None is for ever, DEFAULT what the dict, or the method, does if nothing is given.
Ttl = _requests.Ttl | Literal[Default.DEFAULT]


class Terms:
    """How values of a dict become messages, and messages values."""

    def __init__(self, ttl: _requests.Ttl = None, value_type: Any = None) -> None:
        """Raises InvalidArgumentError for a ttl that is none, InvalidTypeError for a type that is none."""
        self.ttl = _requests.check_ttl(ttl)
        self._type = None if value_type is None else ValueType(value_type)

    def request(
        self, domain: str, key: str, value: Any, *, ttl: Ttl = DEFAULT, **options: Any
    ) -> pb.SetValueRequest:
        """Builds a write. Raises UnsupportedValueError."""
        self.check_written(value)
        return _requests.set_value(
            domain, key, values.encode(value), ttl=self.lasting(ttl, options), **options
        )

    def touching(self, domain: str, entry: pb.Entry, ttl: _requests.Ttl) -> pb.SetValueRequest:
        """Builds the write that gives what is stored another time to live, if nobody else has written it."""
        plain = (
            _compression.plain(entry.value)
            if entry.value.WhichOneof("kind") in _compression.KINDS
            else entry.value
        )
        return _requests.set_value(domain, entry.key, plain, ttl=ttl, if_revision=entry.revision)

    def lasting(self, ttl: Ttl, options: dict[str, Any]) -> _requests.Ttl:
        """Returns the time to live of a write with these options."""
        if ttl is not DEFAULT:
            return ttl
        return None if options.get("keep_ttl") else self.ttl

    def check_written(self, value: Any) -> None:
        """Raises UnsupportedValueError if the value is not of the type."""
        if self._type is not None:
            self._type.check_written(value)

    def checked(self, value: Any) -> Any:
        """Returns the value, which was read. Raises UndecodableValueError if it is not of the type."""
        return value if self._type is None else self._type.checked(value)

    def decode(self, message: pb.Value, accept: int) -> Any:
        """Returns the value of a message that may be compressed so. Raises UndecodableValueError."""
        return self.checked(values.decode(message, accept))

    def decode_all(self, messages: Sequence[pb.Value], accept: int) -> list[Any]:
        """Returns the value of each message, or the UndecodableValueError in its place."""
        found = values.decode_all(messages, accept)
        return found if self._type is None else self._type.all_checked(found)
