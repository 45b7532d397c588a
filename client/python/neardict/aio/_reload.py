"""Reads anew, in the background, what mirrors of an asynchronous store have lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from .._reload import backoffs
from .._where import where
from ..errors import ClosedError

if TYPE_CHECKING:
    import weakref

logger = logging.getLogger(__name__)


class Mirror(Protocol):
    def needs_reload(self) -> bool:
        """Returns whether something is missing that could be read, and kept up to date from then on."""
        ...

    async def reload(self) -> None:
        """Reads what is missing. Raises what reading raises."""
        ...


async def reload(reference: weakref.ref[Mirror]) -> None:
    """Reads what is missing, again and again until that succeeds or nobody needs it any more.

    While this waits, it does not hold the mirror.
    """
    for backoff in backoffs():
        mirror = reference()
        if mirror is None or not mirror.needs_reload():
            return
        try:
            await mirror.reload()
        except ClosedError:
            return
        except Exception as error:
            logger.debug("a mirror could not be read anew: %s", where(error))
        del mirror
        await asyncio.sleep(backoff)
