"""A store of either client, for tests that ask the same of both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any, Self

import neardict
from neardict import aio

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ["threads", "asyncio"]
SECONDS = 60.0


class Either:
    """Connects on entering, and closes at the end. Called with a function, it gives that the store.

    With asyncio the function runs on a loop of its own, in a thread, and what it returns is awaited there.
    """

    def __init__(self, kind: str, target: str, **options: Any) -> None:
        self._kind = kind
        self._target = target
        self._options = options
        self.store: Any = None

    def __enter__(self) -> Self:
        if self._kind == "threads":
            self.store = neardict.connect(self._target, **self._options)
            return self
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.store = self(lambda _: aio.connect(self._target, **self._options))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self(lambda store: store.close())
        finally:
            if self._kind == "asyncio":
                self._stop()

    def __call__(self, function: Callable[[Any], Any]) -> Any:
        if self._kind == "threads":
            return function(self.store)

        async def run() -> Any:
            found = function(self.store)
            return await found if inspect.isawaitable(found) else found

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(SECONDS)

    def set(self, cache: Any, key: str, value: Any) -> None:
        """Writes to a dict."""
        if self._kind == "threads":
            cache[key] = value
        else:
            self(lambda _: cache.set(key, value))

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
