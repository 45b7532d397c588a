"""Audits the dicts of an asynchronous store."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..errors import NeardictError

if TYPE_CHECKING:
    from .._auditor import Auditor
    from .store import Store

logger = logging.getLogger(__name__)


class AuditTask:
    """A task that looks up what the auditor asks for, until it is closed."""

    def __init__(self, store: Store, auditor: Auditor) -> None:
        self._store = store
        self._auditor = auditor
        self.task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends the task."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._auditor.pause())
            for probe in self._auditor.probes():
                try:
                    response = await self._store.lookup(probe.cache.domain, probe.key)
                except NeardictError as error:
                    # What cannot be asked proves nothing.
                    logger.debug("a key could not be audited: %s", type(error).__name__)
                else:
                    self._auditor.answered(probe, response)
