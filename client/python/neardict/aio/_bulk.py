"""Many operations at once on the event loop: a window of them is under way, without a task for each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from .._bulk import HOPELESS, WINDOW, final
from ..errors import BulkError, NeardictError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

# After so many the event loop has its turn, even if nothing has to be waited for.
_TURN = 128


class Begun(NamedTuple):
    """What neardict._bulk.Begun is; `finish`, and what `again` returns, are awaited."""

    cancel: Callable[[], object]
    finish: Callable[[], Awaitable[Any]]
    again: Callable[[NeardictError], Callable[[], Awaitable[Begun]]] = final
    sure: bool = True
    most: int = WINDOW

    async def settle(self) -> Any:
        """Returns the response, after as many attempts as that takes. Raises what the last one ends with."""
        begun = self
        while True:
            try:
                return await begun.finish()
            except NeardictError as error:
                begin = begun.again(error)
            begun = await begin()


async def bulk(
    requests: Mapping[str, Any],
    begin: Callable[[Any], Begun],
    *,
    answered: Callable[[str, Any], None] = lambda key, answer: None,
    failed: Callable[[str, BaseException], None] = lambda key, error: None,
) -> dict[str, Any]:
    """Carries out the operations as neardict._bulk.bulk does; cancelled, it cancels what is under way."""
    answers: dict[str, Any] = {}
    failures: dict[str, NeardictError] = {}
    under_way: OrderedDict[str, Begun] = OrderedDict()  # in the order in which they began
    hopeless: NeardictError | None = None

    async def take() -> NeardictError | None:
        key, begun = next(iter(under_way.items()))
        begin = error = None
        try:
            try:
                answer = await begun.finish()
            except NeardictError as caught:
                begin = begun.again(caught)
            if begin is not None:
                under_way[key] = await begin()
                # Behind the others, so that those which have failed together are repeated together.
                under_way.move_to_end(key)
                return None
        except NeardictError as caught:
            failures[key] = error = caught
            failed(key, error)
        else:
            answers[key] = answer
            answered(key, answer)
        del under_way[key]
        return error if isinstance(error, HOPELESS) else None

    try:
        sure, most = True, WINDOW
        for number, (key, request) in enumerate(requests.items()):
            while under_way and (len(under_way) >= most or not sure):
                hopeless = await take() or hopeless
                sure = sure or not under_way
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if hopeless is None:
                try:
                    under_way[key] = begun = begin(request)
                    sure, most = begun.sure, begun.most
                except HOPELESS as error:
                    hopeless = error
            if hopeless is not None:
                failures[key] = hopeless
        while under_way:
            await take()
    except BaseException as error:
        for key, begun in under_way.items():
            begun.cancel()
            failed(key, error)
        raise
    if failures:
        raise BulkError(failures, len(requests))
    return answers
