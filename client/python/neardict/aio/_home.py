"""The event loop of a store, and what to say where another is used, or none."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from ..errors import ClosedError, NeardictError

# In C, and quick: it is asked before every operation. None where no loop runs.
current = asyncio._get_running_loop

_EACH = (
    "a store belongs to one loop: `async with aio.connect(...) as store` in the coroutine of each asyncio.run"
)


def home() -> asyncio.AbstractEventLoop:
    """Returns the loop that runs here. Raises ClosedError if none does."""
    loop = current()
    if loop is None:
        raise ClosedError(
            "aio.connect was called where no event loop runs: call it in a coroutine, as in `async with "
            "aio.connect() as store` within asyncio.run(main()); neardict.connect needs no loop"
        )
    return loop


def elsewhere(store: object, loop: asyncio.AbstractEventLoop) -> ClosedError:
    """Returns the error to raise where the store is used and its loop does not run."""
    if loop.is_closed():
        return ClosedError(f"the event loop of {store!r} has ended: {_EACH}")
    if loop.is_running():
        return ClosedError(
            f"{store!r} was used outside of its event loop, which runs in another thread: there use "
            "asyncio.run_coroutine_threadsafe(coroutine, loop).result(), or connect for this loop too"
        )
    if current() is None:
        return ClosedError(f"{store!r} was used while its event loop does not run: await it in that loop")
    return ClosedError(f"{store!r} was used in another event loop than its own: {_EACH}")


class NotAwaitedError(NeardictError, TypeError):
    """`with` in place of `async with`."""


def not_awaited(store: object) -> NoReturn:
    """Raises what to say to `with store`."""
    raise NotAwaitedError(f"{store!r} is of asyncio: `async with aio.connect() as store`, not `with`")


def silence(*tasks: asyncio.Task[Any]) -> None:
    """The loop of these tasks has ended, or stands still, and perhaps nobody runs them to their end.

    asyncio would report them on stderr when they are collected, and there is nothing to be done about it.
    """
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
