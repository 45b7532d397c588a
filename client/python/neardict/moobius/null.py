"""Storage switched off."""

from typing import Any

from .interface import DatabaseInterface


class NullDatabase(DatabaseInterface):
    """Keeps values for as long as it exists itself: nothing is sent, written or logged."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Any] = {}

    def get_value(self, key: str) -> tuple[bool, Any]:
        if key not in self._values:
            return False, f"there is no key {key!r}"
        return True, self._values[key]

    def set_value(self, key: str, value: Any) -> tuple[bool, str]:
        self._values[key] = value
        return True, key

    def delete_key(self, key: str) -> tuple[bool, str]:
        if key not in self._values:
            return False, f"there is no key {key!r}"
        del self._values[key]
        return True, key

    def all_keys(self) -> list[str]:
        return list(self._values)
