"""The service as a database of four methods, for a dict of ours or for the SDK's own."""

from collections.abc import Iterator
from typing import Any

from .. import _requests
from ..errors import AbsentKeyError, NeardictError
from ..store import Store
from .connections import connection_to
from .interface import DatabaseInterface
from .own_classes import registering


class RemoteDatabase(DatabaseInterface):
    """A domain of the service at `target`, by default NEARDICT_TARGET, else localhost:50051.

    Does not wait for the connection. Databases of one target share it, and it ends with the last of them.
    """

    def __init__(self, domain: str, target: str | None = None) -> None:
        super().__init__(domain)
        _requests.check_text("domain", domain)
        self.domain = domain
        self._connection = connection_to(target)

    @property
    def target(self) -> str:
        return self.store.target

    @property
    def store(self) -> Store:
        return self._connection.store

    def get_value(self, key: str) -> tuple[bool, Any]:
        """Returns (True, value), or (False, message) if the key is absent.

        Raises the errors of `neardict.errors` if that cannot be told: a caller who took an outage for an
        absent key would go on to overwrite what is stored.
        """
        try:
            if not _requests.may_exist(key):
                raise AbsentKeyError(key)
            return True, self.store.get_value(self.domain, key)
        except AbsentKeyError:
            return False, f"there is no key {key!r} in the domain {self.domain!r}"

    def set_value(self, key: str, value: Any) -> tuple[bool, str]:
        """Returns (True, key), or (False, message) if the value is not stored, for whatever reason."""
        try:
            registering(value, lambda: self.store.set_value(self.domain, key, value))
        except NeardictError as error:
            return False, str(error)
        return True, key

    def delete_key(self, key: str) -> tuple[bool, str]:
        """Returns (True, key), or (False, message) if there is no such key or it cannot be deleted."""
        try:
            existed = _requests.may_exist(key) and self.store.delete_key(self.domain, key)
        except NeardictError as error:
            return False, str(error)
        return (True, key) if existed else (False, f"there is no key {key!r} in the domain {self.domain!r}")

    def all_keys(self) -> Iterator[str]:
        """Yields the keys as they arrive. Raises the errors of `neardict.errors`."""
        # A generator of its own: it holds this object, and so the connection, until it ends.
        yield from self.store.all_keys(self.domain)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process makes its own connection.
        return type(self), (self.domain, self.target)

    def __str__(self) -> str:
        return f"RemoteDatabase({self.domain!r}, target={self.target!r})"


def is_near(database: object) -> bool:
    """Returns whether a dict may go round the four methods: whether they are those of RemoteDatabase."""
    methods = ("get_value", "set_value", "delete_key", "all_keys")
    return isinstance(database, RemoteDatabase) and all(
        getattr(type(database), name) is getattr(RemoteDatabase, name) for name in methods
    )
