"""Reads anew, in the background, what mirrors of an asynchronous store have lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from .._reload import Pauses
from .._where import where
from ..errors import ClosedError

if TYPE_CHECKING:
    import weakref

logger = logging.getLogger(__name__)


class Mirror(Protocol):
    """As `neardict._reload.Mirror`."""

    def needs_reload(self) -> bool: ...

    async def reload(self) -> None: ...

    def reload_ended(self) -> bool: ...


async def reload(reference: weakref.ref[Mirror]) -> None:
    """Reads what is missing, again and again until its `reload_ended`. Does not hold it meanwhile."""
    pauses = Pauses()
    await asyncio.sleep(pauses.first())
    while (mirror := reference()) is not None:
        failed = False
        try:
            if mirror.needs_reload():
                await mirror.reload()
        except ClosedError:
            return
        except Exception as error:
            logger.debug("a mirror could not be read anew: %s", where(error))
            failed = True
        if mirror.reload_ended():
            return
        del mirror
        await asyncio.sleep(pauses.next(failed=failed))
