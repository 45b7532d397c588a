"""What keeps the values of a container: four methods."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any


class DatabaseInterface(ABC):
    """A store of values by key, for one domain. A database of one's own inherits this, or has its methods.

    A method that cannot do its work raises. False from `get_value` says that there is no such key, and from
    the others that nothing was changed; the second element then is a message that says why.
    """

    def __init__(self, domain: str = "", **kwargs: Any) -> None:
        """Takes the domain and whatever settings; this class keeps neither."""
        super().__init__()

    @abstractmethod
    def get_value(self, key: str) -> tuple[bool, Any]:
        """Returns (True, value), or (False, message) if the key is absent."""

    @abstractmethod
    def set_value(self, key: str, value: Any) -> tuple[bool, Any]:
        """Stores the value; returns (True, key), or (False, message) if it is not stored."""

    @abstractmethod
    def delete_key(self, key: str) -> tuple[bool, Any]:
        """Deletes the key; returns (True, key), or (False, message) if nothing was deleted."""

    @abstractmethod
    def all_keys(self) -> Iterable[str]:
        """Returns the keys, in any order."""

    def __str__(self) -> str:
        return f"{type(self).__name__}()"

    def __repr__(self) -> str:
        return str(self)
