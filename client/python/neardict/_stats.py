"""What a dict counts of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counts:
    """The counters of a dict, which counts under its lock."""

    misses: int = 0
    fills: int = 0
    changes: int = 0
    invalidations: int = 0
    evictions: int = 0
    freshened: int = 0
    resets: int = 0
    audited_reads: int = 0
    stale_reads_total: int = 0

    def stats(self, entries: int, absences: int) -> Stats:
        """Returns the counts as they are now."""
        counts = asdict(self)
        # The first time there was nothing to catch up with.
        resyncs = max(0, counts.pop("freshened") - 1)
        return Stats(entries=entries, absences=absences, resyncs=resyncs, **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What happened in a dict since it was made, at one moment.

    Hits are not here: they are served by dict itself, at its speed, and never enter any code of ours. Nor
    is the lag of changes, which could be told only by comparing the clocks of two machines.
    """

    #: Entries held now, shown or set aside while they may be out of date.
    entries: int
    #: Keys now known to be absent, in a cache with load=False.
    absences: int
    #: Keys that were looked up at the service since they were not held. Several threads that miss a key
    #: at once count each, and share one request.
    misses: int
    #: Entries that look-ups and listings have brought.
    fills: int
    #: Changes that the stream has brought, those made here included.
    changes: int
    #: Entries that were replaced or dropped since a change said so.
    invalidations: int
    #: Entries that made room for others, by `max_entries`.
    evictions: int
    #: How often the dict was up to date again after it may not have been.
    resyncs: int
    #: How often all that was held had to be dropped, since changes were lost.
    resets: int
    #: Hits that `Store.audit` has compared with the service.
    audited_reads: int
    #: Those that were out of date for longer than is promised. Above 0 it is a mistake of neardict.
    stale_reads_total: int
