"""Finds the backend of a domain."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Generic, TypeVar

from .errors import NoRouteError

_Target = TypeVar("_Target")


class Router(Generic[_Target]):
    """Sends a domain to the backend of the first pattern that matches it, else to the default."""

    def __init__(
        self, backends: Mapping[str, _Target], routes: Iterable[tuple[str, str]], default: str | None = None
    ) -> None:
        self._routes = [(re.compile(fnmatch.translate(pattern)), backends[name]) for pattern, name in routes]
        self._default = None if default is None else backends[default]
        # Bounded, since domains come from outside.
        self.backend = lru_cache(maxsize=65536)(self._find)

    def _find(self, domain: str) -> _Target:
        for pattern, backend in self._routes:
            if pattern.match(domain):
                return backend
        if self._default is None:
            raise NoRouteError(
                f"no backend is configured for the domain {domain!r}: add a route or a default to the "
                "server's configuration",
                domain=domain,
            )
        return self._default
