"""What a backend must know and answer, as a model that tests hold it to; and a clock that tests turn."""

from dataclasses import dataclass, field

from neardict_server.backends import base
from neardict_server.backends.request_ids import WINDOW
from neardict_server.testing.contract import meaning

START = 1_800_000_000_000_000


class Clock:
    """Time in microseconds since the epoch; it stands still unless it is turned."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@dataclass
class Stored:
    value: base.Value
    revision: int
    expires: int | None
    # Whether the time was up once, before the clock went back: the backend may have removed it then.
    doubtful: bool = False

    def is_over(self, now: int) -> bool:
        return self.expires is not None and self.expires <= now

    def check(self, entry: base.Entry) -> None:
        assert meaning(entry.value) == meaning(self.value)
        assert (entry.revision, entry.expires) == (self.revision, self.expires)


@dataclass
class Done:
    """A write that carried a request id."""

    what: tuple[str, str]
    result: base.Written | base.Deleted
    at: int


@dataclass
class Domain:
    entries: dict[str, Stored] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    requests: int = 0
    # The last revision that is known; the domain's is not below.
    revision: int = 0

    def expired(self, now: int) -> int:
        """Returns how many entries were over at some time, and were not written since."""
        return sum(stored.doubtful or stored.is_over(now) for stored in self.entries.values())

    def turn(self, now: int) -> None:
        """Notes what may have been forgotten at this time, should the clock go back again."""
        for stored in self.entries.values():
            stored.doubtful = stored.doubtful or stored.is_over(now)
        # It is promised for how long an id is remembered at least, not when it is forgotten.
        self.done = {name: done for name, done in self.done.items() if done.at + WINDOW > now}

    def request_id(self, request: str, choice: int) -> str:
        """Returns none, a fresh one, or one that is used again."""
        if request == "none":
            return ""
        if request == "again" and self.done:
            return tuple(self.done)[choice % len(self.done)]
        # The same ones in all domains, which have nothing to do with each other.
        self.requests += 1
        return f"request-{self.requests}"


def condition_of(wish: str, present: Stored | None) -> base.Condition:
    """Returns none, or one that holds, or one that does not, as the present entry is."""
    if wish == "none":
        return None
    if wish == "absent" or (wish == "current" and present is None):
        return base.ABSENT
    revision = present.revision if present else START
    return revision - 1 if wish == "stale" else revision
