"""Who sends next: a few streams at a time."""

import asyncio

# How many streams send at one time.
AT_ONCE = 16
# For how long one of them keeps others waiting, at most.
PATIENCE_SECONDS = 0.01


class Turns:
    """Lets streams that have something to send go on a few at a time, in the order in which they asked.

    gRPC reports that a message was sent in the same queue in which new calls come. If a change of a domain
    that hundreds watch made all of them send at once, every step of every other call would wait for all of
    them. This way calls go on in between, and what they change meanwhile goes along in one message.

    A client that does not read loses its turn: he is not waited for. Used on the event loop alone.
    """

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE_SECONDS) -> None:
        self._at_once = at_once
        self._patience = patience
        # An ordered set of those who have asked, and when each of those who send has begun, in that order.
        self._waiting: dict[asyncio.Event, None] = {}
        self._sending: dict[asyncio.Event, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def sending(self) -> int:
        """How many have a turn."""
        return len(self._sending)

    def ask(self, turn: asyncio.Event) -> None:
        """Sets the event when it is its turn, which lasts until `done`."""
        if turn not in self._sending:
            self._waiting[turn] = None
            self._go_on()

    def done(self, turn: asyncio.Event) -> None:
        """Ends the turn, if it is one."""
        if self._sending.pop(turn, None) is not None:
            self._go_on()

    def leave(self, turn: asyncio.Event) -> None:
        """The stream has ended."""
        self._waiting.pop(turn, None)
        self.done(turn)

    def _go_on(self) -> None:
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            if len(self._sending) >= self._at_once:
                slowest, began = next(iter(self._sending.items()))
                if now < began + self._patience:
                    break
                del self._sending[slowest]
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            self._sending[turn] = now
            turn.set()
        if self._waiting and self._timer is None:
            self._timer = loop.call_later(self._patience, self._check)

    def _check(self) -> None:
        self._timer = None
        self._go_on()
