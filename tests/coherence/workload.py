"""What a client of a run does next, from its seed: hot keys often, cold ones seldom."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from neardict.errors import ConflictError, InvalidArgumentError, LimitExceededError

if TYPE_CHECKING:
    import random

    from coherence.history import Kind
    from neardict._lease import Consistency

# Hot keys race; cold ones keep for a while what was last written, so that a lost change shows.
HOT_KEYS = [f"hot-{number}" for number in range(8)]
COLD_KEYS = [f"cold-{number}" for number in range(120)]
HOT_SHARE = 0.6
WHOLE_SHARE = 0.1
# New dicts are made so many times less often than something is written, and read so often.
RENEWAL = 0.05
NEW_READS = 10

# After these a write has certainly not been applied.
REFUSALS = (ConflictError, InvalidArgumentError, LimitExceededError)
# Shorter than the default: one who waits long reads little.
TIMEOUT_SECONDS = 3.0
LINEARIZABLE = "linearizable"

# `mortal` is a write with a time to live, and `conflict` one under a condition that never holds.
Action = Literal["store", "mirror", "cache", "mortal", "delete", "conflict"]
ACTIONS: dict[Action, float] = {
    "store": 0.2,
    "mirror": 0.25,
    "cache": 0.2,
    "mortal": 0.2,
    "delete": 0.1,
    "conflict": 0.05,
}
# Some expire before anybody writes the key again, and some would long after that.
TTL_SECONDS = (1.0, 90.0)


class View(NamedTuple):
    """A dict, and what it is called in the history."""

    name: str
    cache: Any
    whole: bool = False


@dataclass
class Plan:
    """The work of one client. `rate` is its writes per second; each view is read twice as often."""

    name: str
    domain: str
    rate: float
    randomness: random.Random
    consistency: Consistency = "bounded"
    # Whether the backend can have entries expire.
    mortal: bool = True
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def read(self) -> Kind:
        """What a read of a dict is: under linearizability, no less than to ask the service."""
        return "ask" if self.consistency == LINEARIZABLE else "read"

    def key(self) -> str:
        keys = HOT_KEYS if self.randomness.random() < HOT_SHARE else COLD_KEYS
        return self.randomness.choice(keys)

    def value(self) -> str:
        """Returns a value that nobody else ever writes."""
        return f"{self.name}:{next(self._numbers)}"

    def action(self) -> Action:
        return self.randomness.choices(list(ACTIONS), list(ACTIONS.values()))[0]

    def ttl(self, action: Action) -> float:
        """Returns the seconds that what is written shall live, seldom many; 0 for ever."""
        if action != "mortal" or not self.mortal:
            return 0.0
        return math.exp(self.randomness.uniform(*map(math.log, TTL_SECONDS)))

    def whole(self) -> bool:
        """Returns whether the next read of a mirror goes by a copy of all of it."""
        return self.randomness.random() < WHOLE_SHARE

    def view(self) -> Literal["mirror", "cache"]:
        """Returns which kind of dict is made anew, beside those that are there."""
        return self.randomness.choice(["mirror", "cache"])

    def pause(self, times: float = 1.0) -> float:
        """Returns how long to wait before the next write; `times` as many for something more frequent."""
        return self.randomness.expovariate(self.rate * times)
