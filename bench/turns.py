"""Runs of ours between runs of a peer, so that both see the same moods of the machine."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

# Runs once, and returns its rate or its time.
Take = Callable[[], float]


@dataclass
class Turns:
    """What each round gave: ours, and the mean of the peer's runs just before and just after it."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, round by round."""
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def inverse(self) -> list[float]:
        """The peer's by ours, round by round."""
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]


def take_turns(ours: Take, peer: Take, rounds: int) -> Turns:
    """Returns the figures of so many rounds, after a run of each that warms up and is not counted."""
    ours()
    peer()
    turns = Turns()
    before = peer()
    for _ in range(rounds):
        turns.ours.append(ours())
        after = peer()
        turns.peer.append(statistics.mean((before, after)))
        before = after
    return turns
