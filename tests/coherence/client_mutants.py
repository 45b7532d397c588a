"""Deliberate mistakes of a client, which workers make when they are told to."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from coherence.listening import Listener

if TYPE_CHECKING:
    from typing import Any

    import neardict
    import neardict.aio
    from neardict._changes import Change

CLIENT_MISTAKES = ["expire_by_own_clock", "keep_the_address"]


def keep_the_address(target: str) -> str:
    """The name is looked up once, and never again."""
    name, port = target.rsplit(":", 1)
    return f"{socket.gethostbyname(name)}:{port}"


class ExpireByOwnClock(Listener):
    """An entry leaves the mirror as soon as the client's own wall clock says that it has expired."""

    def __init__(
        self, store: neardict.Store | neardict.aio.Store, domain: str, mirror: dict[str, Any]
    ) -> None:
        self._mirror = mirror
        store.changes.subscribe(domain, self)

    def apply(self, change: Change) -> None:
        """See neardict._changes.Listener."""
        if change.expires is not None and change.expires <= time.time():
            dict.pop(self._mirror, change.key, None)
