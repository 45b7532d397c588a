"""Keeps revisions from repeating when Redis forgets what it has given out."""

from .. import base

# What lies so far ahead of our clock is not believed: one domain that somebody damaged must not push the
# revisions of all others towards the end of their range.
BELIEVED_AHEAD = 3600 * 1_000_000


class Revisions:
    """The greatest revision that this server has seen of any domain in a Redis.

    A write gets a revision above it. Redis' own clock does that already, unless a Redis with a slower one
    takes over without the last writes: by failover, or from an older copy.
    """

    def __init__(self, clock: base.Clock) -> None:
        self._clock = clock
        self.floor = 0

    def seen(self, revision: int) -> None:
        """Takes notice of a revision that was given out."""
        if self.floor < revision <= self._clock() + BELIEVED_AHEAD:
            self.floor = revision
